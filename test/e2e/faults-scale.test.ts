/**
 * Many agents at once, in numbers that two cores bear (each scenario names its factor): a whole node's agents come back
 * together, and agents that come once and never again leave nothing behind.
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Child } from "./support/child.ts";
import { FaultyProxy } from "./support/faulty-proxy.ts";
import { summary, wasAnswered } from "./support/history.ts";
import { NODE } from "./support/kas-node.ts";
import { needNats } from "./support/need.ts";
import { ROOT } from "./support/run-dir.ts";
import { printOnFailure, report, Scene } from "./support/scene.ts";
import { agentToken, merge, staticFile, type Tree } from "./support/settings.ts";
import { until } from "./support/wait.ts";

const nats = await needNats();
const ALL = [0, 1, 2] as const;
const FIRST = 1_000;
/** Of 5 000. */
const LOST = 500;
/** Of 10 000. */
const PASSING = 1_000;
const BACK_WITHIN = 60_000;

/** The usual file and many agents more. */
function manyAgents(): Tree {
  const usual = staticFile();
  const more = Array.from({ length: PASSING }, (_, n) => ({
    id: FIRST + n,
    name: `many-${n}`,
    project_id: 10,
    tokens: [agentToken(FIRST + n)],
  }));
  return merge(usual, { agents: [...(usual.agents as readonly unknown[]), ...more] });
}

describe.skipIf(!nats)("many agents", () => {
  let scene: Scene;
  printOnFailure(() => scene);

  const metric = async (name: string) =>
    await Promise.all(
      scene.cluster.nodes.filter(({ alive }) => alive).map(async (node) => (await node.metrics()).sum(name)),
    );
  const total = async (name: string) => (await metric(name)).reduce((sum, one) => sum + one, 0);
  const fleet = (name: string, proxy: FaultyProxy, count: number, ...more: readonly string[]) =>
    new Child({
      name,
      command: NODE,
      args: [
        join(ROOT, "test", "e2e", "support", "many-agents.ts"),
        proxy.address,
        `${FIRST}`,
        `${count}`,
        scene.upstream(1).url,
        ...more,
      ],
      dir: scene.cluster.dir,
    });
  const series = async () =>
    await Promise.all(scene.cluster.nodes.map(async (node) => (await node.metrics()).samples.length));

  beforeAll(async () => {
    scene = await Scene.start({
      nodes: 3,
      users: manyAgents(),
      agents: [
        { id: 1, on: [0, 1] },
        { id: 2, on: [1, 0] },
        { id: 3, on: [2, 0] },
      ],
    });
  }, 120_000);
  afterAll(async () => await scene?.[Symbol.asyncDispose]());

  it(`F24: is as before after ${PASSING} agents came once and left (a tenth)`, async () => {
    const gate = await scene.cluster.leakGate();
    const [entries, before] = [await total("kas_routing_entries"), await series()];
    await using proxy = await FaultyProxy.listen(() => ALL.map((n) => scene.cluster.node(n).address("agent")));
    await using passing = fleet("passing", proxy, PASSING, "once");
    const load = scene.history.load({ name: "beside", agents: [1, 2, 3], nodes: ALL, perSecond: 20 });
    await until("all to have come and gone", () => !passing.alive, { within: 120_000 });
    const came = passing.lines.filter(({ msg }) => msg === "connected").length;
    const served = await load.stop();
    await until("the index to be as before", async () => (await total("kas_routing_entries")) === entries, {
      within: 60_000,
    });
    const after = await series();

    expect(came).toBe(PASSING);
    expect(served.filter((entry) => !wasAnswered(entry))).toEqual([]);
    for (const [n, count] of after.entries()) expect(count - (before[n] ?? 0)).toBeLessThan(40);
    report("F24", { series: [before, after], ...(await scene.end(gate, { within: 20_000, moreHandles: 2 })) });
    scene.history.clear();
  }, 240_000);

  it(`F12: takes ${LOST} agents back that lost their node at once (a tenth), jittered, beside requests that go on`, async () => {
    const order = [2, 0, 1];
    await using proxy = await FaultyProxy.listen(() => {
      const alive = order.filter((n) => scene.cluster.node(n).alive);
      const [first = 0, ...others] = alive;
      // Once node 2 is gone its agents are spread.
      const spread = first === 2 || Math.random() < 0.5 ? alive : [...others, first];
      return spread.map((n) => scene.cluster.node(n).address("agent"));
    });
    await using many = fleet("many", proxy, LOST);
    await many.line("all agents to connect", ({ msg }) => msg === "all", 120_000);
    const held = async (n: number) => (await scene.cluster.node(n).metrics()).sum("kas_agents_connected");
    await until("node 2 to hold them all", async () => (await held(2)) >= LOST);
    const gate = await scene.cluster.leakGate();

    const calm = scene.history.load({ name: "calm", agents: [1, 2], nodes: [0, 1], perSecond: 40 });
    await sleep(5_000);
    const before = summary(await calm.stop());
    const storm = scene.history.load({ name: "storm", agents: [1, 2], nodes: [0, 1], perSecond: 40 });
    const lost = Date.now();
    await scene.cluster.node(2).child.kill();
    await until("all to be back", async () => (await held(0)) + (await held(1)) >= LOST + 2, { within: BACK_WITHIN });
    const back = Date.now() - lost;
    await sleep(3_000);
    const during = summary(await storm.stop());
    const times = many.lines.flatMap(({ msg, at }) =>
      msg === "connected" && Number(at) >= lost ? [Number(at) - lost] : [],
    );
    for (let n = 0; n < 50; n++) {
      const id = FIRST + Math.floor((n * LOST) / 50);
      await until(`agent ${id}`, async () => (await routed(id)) !== "");
    }

    expect(during.failed).toEqual({});
    expect(during.p99, "five times the target of 5 × the calm").toBeLessThan(Math.max(25 * before.p99, 2_500));
    const busiest = { tenth: fullest(times, 100), second: fullest(times, 1_000) };
    report("F12", { back, busiest, calm: before.p99, storm: during.p99, stormMax: during.max });
    await many.stop();
    await scene.end(gate, { within: 30_000, moreHandles: 4 });
  }, 240_000);

  /** Where a request for the agent would go; "" while nobody knows. */
  async function routed(id: number): Promise<string> {
    const { text } = await scene.cluster.node(0).observe(`/api/v1/route/${id}`, "sre-token");
    const { connections } = JSON.parse(text) as { readonly connections: readonly { readonly node: string }[] };
    return connections.find(({ node }) => !node.startsWith("kas-2"))?.node ?? "";
  }
});

/** Most of these times that lie in one span. */
function fullest(times: readonly number[], span: number): number {
  const spans = new Map<number, number>();
  for (const time of times) spans.set(Math.floor(time / span), (spans.get(Math.floor(time / span)) ?? 0) + 1);
  return Math.max(0, ...spans.values());
}
