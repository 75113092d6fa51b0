/**
 * Memory of the server per idle agent, as a slope between few and many, with and without TLS, beside that of a held call of bare
 * grpc-js; then ten thousand on one node, and what they cost while nothing happens.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Child } from "../e2e/support/child.ts";
import { rssBytes } from "../support/resident-memory.ts";
import { Fleet, type FleetOptions, UNLIMITED, usersWith } from "./support/fleet.ts";
import { collectGarbage, INSPECTED } from "./support/inspector.ts";
import { atMost, type Bench, type Findings, row, size } from "./support/row.ts";
import { Stage } from "./support/stage.ts";
import { during } from "./support/usage.ts";

const FEW = 100;
const [PLAIN, OVER_BARE, TLS] = [50_000, 12_000, 100_000];
const HOST = 10_000;
const IDLE_SECONDS = 8;

export async function* idle({ quick }: Bench): Findings {
  yield* plain(quick ? 500 : 1_000);
  yield* overTls(quick ? 300 : 1_000);
  if (!quick) yield* host();
}

async function* plain(many: number): Findings {
  await using stage = await Stage.start(null, {
    nodes: 1,
    users: usersWith(many),
    env: INSPECTED,
    settings: UNLIMITED,
  });
  const bare = await stage.server("grpc-echo", [], INSPECTED);
  const kas = stage.cluster.node(0);
  const { dir } = stage;
  const held = await slope(bare.child, { kind: "calls", address: bare.address, dir }, many);
  const linked = await slope(kas.child, { kind: "agents", address: kas.address("agent"), dir }, many);
  yield row({
    name: "RSS of the server per idle agent, without TLS",
    target: "≤ 50 kB and ≤ 12 kB above a held grpc-js call",
    measured: `${kB(linked)}; held grpc-js call ${kB(held)}; of ${many}`,
    ratio: `${kB(linked - held)} above`,
    reached: Math.min(atMost(linked, PLAIN), atMost(linked - held, OVER_BARE)),
  });
  yield size("1 GiB of RSS, agents without TLS", perGiB(linked), `${kB(linked)} each`);
}

async function* overTls(many: number): Findings {
  await using stage = await Stage.start(null, {
    nodes: 1,
    users: usersWith(many),
    env: INSPECTED,
    settings: UNLIMITED,
    tls: "all",
  });
  const kas = stage.cluster.node(0);
  const caFile = stage.cluster.certificates?.caFile;
  const address = kas.address("agent");
  const linked = await slope(kas.child, { kind: "agents", address, dir: stage.dir, caFile }, many);
  yield row({
    name: "RSS of the server per idle agent, with TLS",
    target: "≤ 100 kB",
    measured: `${kB(linked)}; of ${many}`,
    reached: atMost(linked, TLS),
  });
  yield size("1 GiB of RSS, agents with TLS", perGiB(linked), `${kB(linked)} each`);
}

async function* host(): Findings {
  await using stage = await Stage.start(null, {
    nodes: 1,
    users: usersWith(HOST),
    env: INSPECTED,
    settings: UNLIMITED,
  });
  const { child } = stage.cluster.node(0);
  const empty = rssBytes(child.pid);
  await using fleet = new Fleet({ kind: "agents", address: stage.cluster.node(0).address("agent"), dir: stage.dir });
  const begun = performance.now();
  await fleet.grow(HOST);
  const took = (performance.now() - begun) / 1_000;
  await sleep(2_000);
  await collectGarbage(child);
  const full = rssBytes(child.pid);
  const { cpu } = await during([{ name: "kas", pid: child.pid }], () => sleep(IDLE_SECONDS * 1_000));
  const share = ((cpu.get("kas") ?? 0) / IDLE_SECONDS / 1e6) * 100;
  yield row({
    name: `${HOST} idle agents on one node, without TLS`,
    target: "≤ 50 kB RSS each",
    measured: `${kB((full - empty) / HOST)} each; all connected after ${took.toFixed(0)} s; then ${share.toFixed(1)} % of a core`,
    rss: `${(full / 2 ** 20).toFixed(0)} MiB in all`,
    reached: atMost((full - empty) / HOST, PLAIN),
  });
  yield size(`${HOST} idle agents, their PINGs`, `${share.toFixed(1)} % of a core`, `CPU of ${IDLE_SECONDS} s`);
}

const kB = (bytes: number): string => `${(bytes / 1_000).toFixed(1)} kB`;
const perGiB = (bytes: number): string => `${Math.floor(2 ** 30 / bytes)} idle agents`;

/** Bytes per client between FEW of them and `many`. */
async function slope(server: Child, options: FleetOptions, many: number): Promise<number> {
  await using fleet = new Fleet(options);
  const at: number[] = [];
  for (const count of [FEW, many]) {
    await fleet.grow(count);
    await sleep(1_000);
    await collectGarbage(server);
    at.push(rssBytes(server.pid));
  }
  return ((at[1] ?? 0) - (at[0] ?? 0)) / (many - FEW);
}
