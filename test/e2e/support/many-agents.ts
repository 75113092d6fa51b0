/**
 * Many agents in one process, each with a link of its own made by the code of agentk: `many-agents.ts <host:port> <first id>
 * <count> <upstream> [once]`. It prints a line of JSON each time one of them connects; with `once` each leaves again at once.
 */
import { Connector } from "../../../src/agentk/connector.ts";
import { createDial } from "../../../src/agentk/dial.ts";
import { createExecutor } from "../../../src/agentk/executor.ts";
import { builtInMethods, createGrpcMethods } from "../../../src/agentk/grpc-methods.ts";
import { createUpstreams, serviceUpstream } from "../../../src/agentk/upstream.ts";
import { openLink } from "../../../src/link/multiplexer.ts";
import { systemClock } from "../../../src/runtime/clock.ts";
import { agentToken } from "./settings.ts";

const [address = "", first = "1", count = "1", upstream = "", mode = ""] = process.argv.slice(2);
const [host = "", port = "0"] = address.split(":");
const SERVICE = "upstream";
/** Dials under way at the start: a fleet does not start in one instant. */
const AT_ONCE = 50;

const execute = createExecutor({
  upstreams: createUpstreams(serviceUpstream(SERVICE, upstream), new Map([[SERVICE, upstream]])),
  methods: createGrpcMethods(builtInMethods({ echo: false })),
  clock: systemClock,
});
const kas = {
  scheme: "grpc",
  host,
  port: Number(port),
  path: "/",
  headers: [],
  caCertFile: null,
  tlsServerName: null,
  insecureSkipTlsVerify: false,
  proxy: null,
} as const;

const say = (line: object) => process.stdout.write(`${JSON.stringify({ ...line, at: Date.now() })}\n`);
const log = { info() {}, warn() {}, error: (message: string, fields: unknown) => say({ msg: message, fields }) };

function connect(id: number): Promise<void> {
  return new Promise((resolve) => {
    const connector: Connector = new Connector({
      dial: createDial(kas, () => agentToken(id), "0"),
      openLink,
      execute,
      clock: systemClock,
      random: Math.random,
      identity: { instance: `many/${id}`, process: `${process.pid}`, version: "0" },
      services: [SERVICE],
      backoffInitial: 500,
      backoffMax: 15_000,
      log,
      connected: ({ agentId, node }) => {
        say({ msg: "connected", agent_id: agentId, node });
        if (mode !== "once") resolve();
        else void connector.drain(5_000).then(resolve);
      },
    });
  });
}

let next = Number(first);
const last = next + Number(count);
const work = async () => {
  while (next < last) await connect(next++);
};
await Promise.all(Array.from({ length: AT_ONCE }, work));
say({ msg: "all" });
if (mode !== "once") setInterval(() => {}, 60_000);
else process.exit(0);
