/**
 * What callers feel when parts die: the holder killed with -9 until the next answer after the agent redialled, a home killed
 * while agents are asked for that nobody asked for before, and one of an agent's two pods frozen.
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Child } from "../e2e/support/child.ts";
import { FaultyProxy } from "../e2e/support/faulty-proxy.ts";
import { fetchText } from "../e2e/support/http.ts";
import { NODE } from "../e2e/support/kas-node.ts";
import { ROOT } from "../e2e/support/run-dir.ts";
import { AGENTS } from "../e2e/support/settings.ts";
import { atMost, type Bench, type Findings, row } from "./support/row.ts";
import { Stage } from "./support/stage.ts";
import { median } from "./support/statistics.ts";

const [AFTER_REDIAL, HOME_WAIT, FROZEN_WAIT] = [1_500, 1_000, 5_000];

export async function* recovery({ quick }: Bench): Findings {
  await using stage = await Stage.start(null, { nodes: 3 });
  yield* frozen(stage);
  yield* holderKilled(stage, quick ? 1 : 3);
  yield* homeKilled(stage);
}

type Asked = { readonly status: number; readonly took: number };

async function ask(stage: Stage, id: number, method = "GET"): Promise<Asked> {
  const { url, headers } = stage.routed("/", id);
  const begun = performance.now();
  const status = await fetchText(url, { method, headers, within: 30_000 }).then(
    (answer) => answer.status,
    () => 0,
  );
  return { status, took: performance.now() - begun };
}

async function* frozen(stage: Stage): Findings {
  const pods = [await stage.agent(2, 1), await stage.agent(2, 2)];
  for (let i = 0; i < 20; i++) await ask(stage, 2);
  pods[0]?.child.signal("SIGSTOP");
  const asked: Promise<Asked>[] = [];
  for (let i = 0; i < 24; i++) {
    asked.push(ask(stage, 2, i % 2 === 0 ? "GET" : "POST"));
    await sleep(200);
  }
  const answers = await Promise.all(asked);
  const slowest = Math.max(...answers.map(({ took }) => took));
  const moved = answers.filter(({ status }) => status === 200).length;
  yield row({
    name: "one of an agent's two pods frozen (SIGSTOP), new requests",
    target: "fail or move ≤ 5 s",
    measured: `the slowest after ${slowest.toFixed(0)} ms; ${moved} answered by the other pod, ${answers.length - moved} failed (POSTs that may have run)`,
    reached: atMost(slowest, FROZEN_WAIT),
  });
  for (const pod of pods) await pod.child.kill();
}

async function* holderKilled(stage: Stage, rounds: number): Findings {
  const { cluster } = stage;
  let dialled = 0;
  await using proxy = await FaultyProxy.listen(() => {
    dialled = performance.now();
    return [1, 2].map((n) => cluster.node(n)).flatMap((node) => (node.alive ? [node.address("agent")] : []));
  });
  const agent = await stage.agentBehind(1, proxy.address);
  const [afterRedial, afterKill]: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds; round++) {
    const holder = cluster.nodes.findIndex(({ name }) => name === agent.node);
    if ((await ask(stage, 1)).status !== 200) throw new Error("agent 1 is not reached");
    await cluster.node(holder).child.kill();
    const killed = performance.now();
    const answered = await firstAnswer(stage, 1);
    afterRedial.push(answered - dialled);
    afterKill.push(answered - killed);
    await cluster.restart(holder);
    await sleep(1_000);
  }
  yield row({
    name: "holder killed with -9, the next answer",
    target: "≤ 1.5 s after the agent's redial",
    measured: `${median(afterRedial).toFixed(0)} ms after the redial, ${median(afterKill).toFixed(0)} ms after the kill (most ${Math.max(...afterRedial).toFixed(0)} and ${Math.max(...afterKill).toFixed(0)} of ${rounds})`,
    reached: atMost(Math.max(...afterRedial), AFTER_REDIAL),
  });
  await agent.child.kill();
}

/** When a request was answered that nobody had promised an agent. */
async function firstAnswer(stage: Stage, id: number): Promise<number> {
  for (const begun = performance.now(); performance.now() - begun < 30_000; await sleep(20)) {
    if ((await ask(stage, id)).status === 200) return performance.now();
  }
  throw new Error(`agent ${id} was not reached again within 30 s`);
}

/** Node 0 is asked, node 1 holds them all, node 2 is home of some and dies: lookups that go there first find nobody. */
async function* homeKilled(stage: Stage): Findings {
  const script = join(ROOT, "test", "e2e", "support", "many-agents.ts");
  const args = [
    script,
    stage.cluster.node(1).address("agent"),
    "1",
    String(AGENTS.length),
    `http://${stage.upstream.address}`,
  ];
  await using fleet = new Child({ name: "fleet", command: NODE, args, dir: stage.dir });
  await fleet.line("all agents", ({ msg }) => msg === "all");
  await sleep(1_000);
  await stage.cluster.restart(0);
  await sleep(1_000);
  await stage.cluster.node(2).child.kill();
  const answers: Asked[] = [];
  for (let i = 0; i < 5; i++) answers.push(...(await Promise.all(AGENTS.map((id) => ask(stage, id)))));
  const failed = answers.filter(({ status }) => status !== 200).length;
  const slowest = Math.max(...answers.map(({ took }) => took));
  yield row({
    name: "home killed with -9 while unknown agents are asked for",
    target: "no request fails, none waits > 1 s",
    measured: `${failed} of ${answers.length} failed, the slowest after ${slowest.toFixed(0)} ms`,
    reached: failed > 0 ? 0.01 : atMost(slowest, HOME_WAIT),
  });
}
