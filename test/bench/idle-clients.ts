/** Many idle clients in one process: agents linked to kas, or calls of a bare grpc-js server that are held open. */
import { createInterface } from "node:readline";
import { Client, credentials } from "@grpc/grpc-js";
import { Connector } from "../../src/agentk/connector.ts";
import { createDial } from "../../src/agentk/dial.ts";
import { failed } from "../../src/failed.ts";
import { openLink } from "../../src/link/multiplexer.ts";
import { systemClock } from "../../src/runtime/clock.ts";

const [kind, address = "", tokenPrefix = ""] = process.argv.slice(2);
const [host = "", port = ""] = address.split(":");
const identity = (bytes: Buffer): Buffer => bytes;
const silent = { info() {}, warn() {}, error: console.error };

function hold(): Promise<void> {
  const client = new Client(address, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
  const call = client.makeBidiStreamRequest("/bench.Echo/Hold", identity, identity);
  call.on("error", console.error);
  call.write(Buffer.alloc(64));
  return new Promise((resolve) => void call.once("data", () => resolve()));
}

function agent(id: number): Promise<void> {
  const to = {
    scheme: "grpc",
    host,
    port: Number(port),
    path: "",
    headers: [],
    caCertFile: null,
    tlsServerName: null,
    insecureSkipTlsVerify: false,
    proxy: null,
  } as const;
  return new Promise((resolve) => {
    new Connector({
      dial: createDial(to, () => `${tokenPrefix}${id}`, "bench"),
      openLink,
      execute() {
        throw failed("invalid", "an idle agent executes nothing");
      },
      clock: systemClock,
      random: Math.random,
      identity: { instance: `bench/agent-${id}`, process: String(process.pid), version: "bench" },
      services: [],
      backoffInitial: 1_000,
      backoffMax: 5_000,
      log: silent,
      connected: () => resolve(),
    });
  });
}

let count = 0;
/** Each line is how many there shall be; the answer is given when all are up. */
for await (const line of createInterface({ input: process.stdin })) {
  while (count < Number(line)) {
    count += 1;
    await (kind === "agents" ? agent(count) : hold());
  }
  process.stdout.write(`${JSON.stringify({ msg: "up", count })}\n`);
}
