/**
 * Many idle clients in one process: agents linked to kas, or calls of a bare grpc-js server that are held open. Arguments:
 * `agents` or `calls`, `grpc` or `grpcs`, the address, how many dial at once, and the beginning of the agents' tokens. Each line
 * of stdin is how many there shall be; the answer comes when all are up.
 */
import { createInterface } from "node:readline";
import { Client, credentials } from "@grpc/grpc-js";
import { Connector } from "../../src/agentk/connector.ts";
import { createDial } from "../../src/agentk/dial.ts";
import { failed } from "../../src/failed.ts";
import { openLink } from "../../src/link/multiplexer.ts";
import { systemClock } from "../../src/runtime/clock.ts";

const [kind, scheme, address = "", atOnce = "50", tokenPrefix = ""] = process.argv.slice(2);
const [host = "", port = ""] = address.split(":");
const identity = (bytes: Buffer): Buffer => bytes;
const silent = { info() {}, warn() {}, error: console.error };
const kas = {
  scheme: scheme === "grpcs" ? "grpcs" : "grpc",
  host,
  port: Number(port),
  path: "",
  headers: [],
  caCertFile: null,
  tlsServerName: null,
  insecureSkipTlsVerify: false,
  proxy: null,
} as const;

function hold(): Promise<void> {
  const client = new Client(address, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
  const call = client.makeBidiStreamRequest("/bench.Echo/Hold", identity, identity);
  call.on("error", console.error);
  call.write(Buffer.alloc(64));
  return new Promise((resolve) => void call.once("data", () => resolve()));
}

function agent(id: number): Promise<void> {
  return new Promise((resolve) => {
    new Connector({
      dial: createDial(kas, () => `${tokenPrefix}${id}`, "bench"),
      openLink,
      execute() {
        throw failed("invalid", "an idle agent executes nothing");
      },
      clock: systemClock,
      random: Math.random,
      identity: { instance: `bench/agent-${id}`, process: String(process.pid), version: "bench" },
      services: [],
      backoffInitial: 500,
      backoffMax: 5_000,
      log: silent,
      connected: () => resolve(),
    });
  });
}

let count = 0;
for await (const line of createInterface({ input: process.stdin })) {
  const wanted = Number(line);
  const connect = async () => {
    while (count < wanted) await (++count && kind === "agents" ? agent(count) : hold());
  };
  await Promise.all(Array.from({ length: Number(atOnce) }, connect));
  process.stdout.write(`${JSON.stringify({ msg: "up", count })}\n`);
}
