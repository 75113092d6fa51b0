/**
 * What a routed GET of 1 KiB costs a node of two workers beside a node of one process: with an agent that is connected to
 * both workers, so that nothing crosses, and with one that is connected to one of them, so that half of the requests do.
 */

import { cpus } from "node:os";
import { childrenOf } from "../e2e/support/children.ts";
import { startNatsServer } from "../support/nats-server.ts";
import { wrk } from "./support/load.ts";
import { type Contestant, cpuText, inRounds, type Result, rateText, ratio, rssText } from "./support/rounds.ts";
import { atMost, type Bench, type Findings, row } from "./support/row.ts";
import { Stage } from "./support/stage.ts";
import type { Watched } from "./support/usage.ts";

const [ONE, TWO, CROSSING] = ["one process", "two workers", "two workers, half crosses"] as const;
const CALLERS = 32;
const PROMISED = 1.15;
/** Requests, for two workers together. */
const COMPILED_AFTER = 60_000;
/** Below so many, callers, agent and upstream need the cores that a second worker could use. */
const CORES_TO_SCALE = 6;

export async function* workers({ quick }: Bench): Findings {
  await using nats = await startNatsServer();
  const shared = { nodes: 1, natsUrl: nats.url };
  await using one = await Stage.start(null, shared);
  await using two = await Stage.start(null, { ...shared, flags: ["--workers", "2"] });
  await one.agent(1, 0);
  await one.agent(1, 0);
  await onBoth(two);
  await two.agent(2, 0);
  const all = [contestant(ONE, one, 1), contestant(TWO, two, 1), contestant(CROSSING, two, 2)];
  for (const { run } of all) await warmUp(run, quick ? 12_000 : 30_000);
  const results = await inRounds(all, quick ? 2 : 5, quick ? 2 : 3);
  const alone = results.get(ONE);
  if (!alone) return;
  yield row({ name: `GET 1 KiB, ${CALLERS} callers, ${ONE}`, ...seen(alone) });
  for (const name of [TWO, CROSSING]) {
    const result = results.get(name);
    if (result) yield row({ name: `GET 1 KiB, ${CALLERS} callers, ${name}`, ...compared(result, alone, name === TWO) });
  }
}

const seen = (result: Result) => ({ measured: rateText(result), cpu: cpuText(result), rss: rssText(result) });

function compared(result: Result, alone: Result, promised: boolean) {
  const cost = kasMicros(result) / kasMicros(alone);
  const rate = ratio(result.rates, alone.rates);
  const scaling = cpus().length < CORES_TO_SCALE ? `: ${cpus().length} cores, a second worker has none to itself` : "";
  return {
    ...seen(result),
    ratio: `kas: ${cost.toFixed(2)} × the CPU of ${ONE}; ${rate.toFixed(2)} × its rate${scaling}`,
    ...(promised && { target: `≤ ${PROMISED} × the CPU of ${ONE}`, reached: atMost(cost, PROMISED) }),
  };
}

/** Each worker compiles its own code: until that is done, a request costs several times what it costs later. */
async function warmUp(run: Contestant["run"], most: number): Promise<void> {
  const until = performance.now() + most;
  for (let requests = 0; requests < COMPILED_AFTER && performance.now() < until; ) requests += (await run(3)).requests;
}

/** Of all processes of kas. */
const kasMicros = ({ cpu }: Result): number =>
  [...cpu].filter(([name]) => name.startsWith("kas")).reduce((sum, [, micros]) => sum + micros, 0);

/** The kernel chooses the worker by the agent's port: dials until there is a connection on each. */
async function onBoth(stage: Stage): Promise<void> {
  const first = await stage.agent(1, 0);
  for (let dials = 0; dials < 20; dials++) {
    const other = await stage.agent(1, 0);
    if (other.node !== first.node) return;
    await other.child.stop();
  }
}

function contestant(name: string, stage: Stage, agent: number): Contestant {
  const { url, headers } = stage.routed("/", agent);
  return { name, watched: watched(stage), run: (seconds) => wrk({ url, headers, callers: CALLERS, seconds }) };
}

function watched({ cluster, upstream }: Stage): readonly Watched[] {
  const pid = cluster.node(0).child.pid;
  const own = childrenOf(pid).map((child) => ({ name: `kas ${child.command.split("-").at(-1)}`, pid: child.pid }));
  const agents = cluster.agents.filter(({ alive }) => alive).map(({ name, child }) => ({ name, pid: child.pid }));
  return [{ name: "kas", pid }, ...own, ...agents, { name: "upstream", pid: upstream.child.pid }];
}
