/** Memory of the server per idle agent link, as a slope between few and many, beside that of a held call of bare grpc-js. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Child } from "../e2e/support/child.ts";
import { NODE } from "../e2e/support/kas-node.ts";
import { ROOT } from "../e2e/support/run-dir.ts";
import { collectGarbage, INSPECTED } from "./support/inspector.ts";
import { type Bench, type Row, row } from "./support/row.ts";
import { Stage } from "./support/stage.ts";
import { rssBytes } from "./support/usage.ts";

const TOKEN = "idle-agent-";
const FEW = 100;

export async function idle({ quick }: Bench): Promise<readonly Row[]> {
  const many = quick ? 500 : 1_000;
  const agents = Array.from({ length: many }, (_, i) => ({
    id: i + 1,
    name: `idle-${i + 1}`,
    project_id: 10,
    tokens: [`${TOKEN}${i + 1}`],
  }));
  await using stage = await Stage.start(null, { nodes: 1, users: { agents }, env: INSPECTED });
  const bare = await stage.server("grpc-echo", [], INSPECTED);
  const kas = stage.cluster.node(0);
  const held = await slope(stage, bare.child, ["calls", bare.address], many);
  const linked = await slope(stage, kas.child, ["agents", kas.address("agent"), TOKEN], many);
  return [
    row({
      name: "RSS of the server per idle agent, without TLS",
      target: "≤ 50 kB and ≤ 12 kB above a held grpc-js call",
      measured: `${(linked / 1000).toFixed(1)} kB; held grpc-js call ${(held / 1000).toFixed(1)} kB`,
      ratio: `${((linked - held) / 1000).toFixed(1)} kB above`,
      met: linked <= 50_000 && linked - held <= 12_000,
    }),
  ];
}

/** Bytes per client between FEW of them and `many`. */
async function slope(stage: Stage, server: Child, args: readonly string[], many: number): Promise<number> {
  const script = join(ROOT, "test", "bench", "idle-clients.ts");
  await using clients = new Child({ name: `idle-${args[0]}`, command: NODE, args: [script, ...args], dir: stage.dir });
  const at: number[] = [];
  for (const count of [FEW, many]) {
    clients.write(`${count}\n`);
    await clients.line(`${count} clients`, (line) => line.msg === "up" && line.count === count, 120_000);
    await sleep(2_000);
    await collectGarbage(server);
    at.push(rssBytes(server.pid));
  }
  return ((at[1] ?? 0) - (at[0] ?? 0)) / (many - FEW);
}
