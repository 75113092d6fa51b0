/**
 * Several kas nodes in one process on the in-memory bus, for a machine without NATS: `one-process.ts KAS.YAML …`. Each line
 * on stdout also names its node. Ends on SIGTERM, and when the demo that started it is gone.
 */
import { readFileSync } from "node:fs";
import { Socket } from "node:net";
import { MemoryBroker } from "../bus/memory.ts";
import { parseKasConfig } from "../config/kas.ts";
import { startKas } from "../kas/start.ts";

const readFile = (path: string) => readFileSync(path, "utf8");

function endWithTheDemo(fd: string | undefined): void {
  if (fd === undefined) return;
  const lifeline = new Socket({ fd: Number(fd), readable: true, writable: false });
  lifeline.on("error", () => {});
  lifeline.on("close", () => process.kill(process.pid, "SIGKILL"));
  lifeline.resume();
  lifeline.unref();
}

endWithTheDemo(process.env.KAS_LIFELINE_FD);
const { promise: told, resolve: tell } = Promise.withResolvers<void>();
process.once("SIGTERM", tell);
const broker = new MemoryBroker();
const files = process.argv.slice(2);
const nodes = await Promise.all(
  files.map((file, index) => {
    const sources = { file, env: process.env, hostname: "demo", interfaces: [], readFile };
    const { config, warnings } = parseKasConfig(readFile(file), sources);
    const { name } = config.node;
    return startKas({
      config,
      warnings,
      // Tracing is one for the whole process.
      env: index === 0 ? process.env : {},
      stdout: (line) => process.stdout.write(`${JSON.stringify({ node: name, ...JSON.parse(line) })}\n`),
      bus: broker.connect(name),
      wholeProcess: index === 0,
    });
  }),
);
await told;
for (const node of nodes.toReversed()) await node.drain().then(() => node.stop());
process.exit(0);
