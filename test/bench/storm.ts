/** Agents that all dial one node in the same instant, its limit of handshakes off: until the last is connected, and what a caller of another agent feels. */
import { Fleet, UNLIMITED, usersWith } from "./support/fleet.ts";
import { type Load, wrk } from "./support/load.ts";
import { type Bench, type Finding, type Findings, row, size } from "./support/row.ts";
import { Stage } from "./support/stage.ts";
import { during } from "./support/usage.ts";

export async function* storm({ quick }: Bench): Findings {
  for (const [tls, count] of [
    ["none", quick ? 200 : 1_000],
    ["all", quick ? 100 : 300],
  ] as const)
    yield* one(tls, count);
}

async function* one(tls: "none" | "all", count: number): Findings {
  await using stage = await Stage.start(null, {
    nodes: 2,
    users: usersWith(count),
    settings: UNLIMITED,
    tls,
    ...(tls === "all" && { env: { OWN_PRIVATE_API_HOST: "localhost" } }),
  });
  await stage.agent(1);
  const kas = stage.cluster.node(1);
  const target = stage.routed("/");
  const victim = (seconds: number): Promise<Load> => wrk({ ...target, callers: 1, seconds });
  await victim(1);
  const alone = await victim(2);
  const caFile = stage.cluster.certificates?.caFile;
  await using fleet = new Fleet({
    kind: "agents",
    address: kas.address("agent"),
    dir: stage.dir,
    atOnce: count,
    caFile,
  });
  const { value: took, cpu } = await during([{ name: "kas", pid: kas.child.pid }], async () => {
    const beside = victim(3);
    const begun = performance.now();
    await fleet.grow(count);
    return { seconds: (performance.now() - begun) / 1_000, beside: await beside };
  });
  yield* findings({
    tls: tls === "all" ? "with TLS" : "without TLS",
    count,
    alone,
    ...took,
    micros: (cpu.get("kas") ?? 0) / count,
  });
}

type Storm = {
  readonly tls: string;
  readonly count: number;
  readonly alone: Load;
  readonly beside: Load;
  readonly seconds: number;
  /** CPU of the node per agent, what it did for the victim included. */
  readonly micros: number;
};

function* findings({ tls, count, alone, beside, seconds, micros }: Storm): Generator<Finding> {
  const rate = count / seconds;
  yield row({
    name: `connect storm, ${count} agents at one node in one instant, ${tls}`,
    measured: `all connected after ${seconds.toFixed(1)} s, ${rate.toFixed(0)}/s; a caller of another agent meanwhile: p99 ${beside.p99.toFixed(1)} ms, alone ${alone.p99.toFixed(1)} ms`,
    ratio: `${(beside.p99 / alone.p99).toFixed(1)} × alone`,
    cpu: `kas ${micros.toFixed(0)} per agent`,
  });
  yield size(`connects at one node, ${tls}`, `${rate.toFixed(0)} agents/s`, `${count} in one instant`);
}
