/**
 * Many agents at once, in numbers that two cores bear (each scenario names its factor): a whole node's agents come back
 * together, a new node gets its share of them, and agents that come once and never again leave nothing behind.
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Child } from "./support/child.ts";
import { FaultyProxy } from "./support/faulty-proxy.ts";
import { summary, wasAnswered } from "./support/history.ts";
import { fetchText } from "./support/http.ts";
import { NODE } from "./support/kas-node.ts";
import { needNats } from "./support/need.ts";
import { ROOT } from "./support/run-dir.ts";
import { printOnFailure, report, Scene } from "./support/scene.ts";
import { agentToken, merge, staticFile, type Tree } from "./support/settings.ts";
import { until } from "./support/wait.ts";

const nats = await needNats();
const ALL = [0, 1, 2] as const;
const FIRST = 1_000;
const FLEET_TOKEN = "fleet-token";
/** Of 5 000. */
const LOST = 500;
/** Of 10 000. */
const PASSING = 1_000;
const BACK_WITHIN = 60_000;
/** Of 1 000. */
const SPREAD = 300;
const SPREAD_WITHIN = 60_000;
const MOVES_PER_SECOND = 50;
/** A tenth of what 5 000 agents are admitted with, and more: 15 % of them in the busiest second, all in a minute. */
const HANDSHAKES_PER_SECOND = 15;

/** The usual file and many agents more, which its user may use. */
function manyAgents(): Tree {
  const usual = staticFile();
  const ids = Array.from({ length: PASSING }, (_, n) => FIRST + n);
  const more = ids.map((id) => ({ id, name: `many-${id}`, project_id: 10, tokens: [agentToken(id)] }));
  const access = ids.map((agent_id) => ({ agent_id, as: "agent", services: ["upstream"] }));
  return merge(usual, {
    agents: [...(usual.agents as readonly unknown[]), ...more],
    users: [...(usual.users as readonly unknown[]), { username: "fleet", tokens: [FLEET_TOKEN], access }],
  });
}

function shuffled<Value>(values: readonly Value[]): Value[] {
  const sorted = values.map((value) => ({ value, by: Math.random() })).toSorted((a, b) => a.by - b.by);
  return sorted.map(({ value }) => value);
}

const held = async (scene: Scene, n: number) => (await scene.cluster.node(n).metrics()).sum("kas_agents_connected");

const fleet = (scene: Scene, name: string, proxy: FaultyProxy, count: number, ...more: readonly string[]) =>
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

describe.skipIf(!nats)("many agents", () => {
  let scene: Scene;
  printOnFailure(() => scene);

  const metric = async (name: string) =>
    await Promise.all(
      scene.cluster.nodes.filter(({ alive }) => alive).map(async (node) => (await node.metrics()).sum(name)),
    );
  const total = async (name: string) => (await metric(name)).reduce((sum, one) => sum + one, 0);
  const series = async () =>
    await Promise.all(scene.cluster.nodes.map(async (node) => (await node.metrics()).samples.length));

  beforeAll(async () => {
    scene = await Scene.start({
      nodes: 3,
      users: manyAgents(),
      settings: {
        agent: { listen: { handshakes_per_second: HANDSHAKES_PER_SECOND } },
        timings: { rebalance_after: "1h" },
      },
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
    await using proxy = await FaultyProxy.listen(() =>
      shuffled(ALL).map((n) => scene.cluster.node(n).address("agent")),
    );
    await using passing = fleet(scene, "passing", proxy, PASSING, "once");
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

  it(`F12: takes ${LOST} agents back that lost their node at once (a tenth, at a tenth of the rate), jittered, beside requests that go on`, async () => {
    // Once node 2 is gone its agents are spread.
    const targets = () => (scene.cluster.node(2).alive ? [2] : shuffled([0, 1]));
    await using proxy = await FaultyProxy.listen(() => targets().map((n) => scene.cluster.node(n).address("agent")));
    await using many = fleet(scene, "many", proxy, LOST);
    await many.line("all agents to connect", ({ msg }) => msg === "all", 120_000);
    await until("node 2 to hold them all", async () => (await held(scene, 2)) >= LOST);
    const gate = await scene.cluster.leakGate();

    const calm = scene.history.load({ name: "calm", agents: [1, 2], nodes: [0, 1], perSecond: 40 });
    await sleep(5_000);
    const before = summary(await calm.stop());
    const storm = scene.history.load({ name: "storm", agents: [1, 2], nodes: [0, 1], perSecond: 40 });
    const lost = Date.now();
    await scene.cluster.node(2).child.kill();
    const back = async () => (await held(scene, 0)) + (await held(scene, 1)) >= LOST + 2;
    await until("all to be back", back, { within: BACK_WITHIN });
    const took = Date.now() - lost;
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
    expect(busiest.second, "agents back in one second").toBeLessThanOrEqual(0.15 * LOST);
    report("F12", { back: took, busiest, calm: before.p99, storm: during.p99, stormMax: during.max });
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

describe.skipIf(!nats)("agents after a scale-out", () => {
  let scene: Scene;
  printOnFailure(() => scene);
  afterAll(async () => await scene?.[Symbol.asyncDispose]());

  it(`F10: spread ${SPREAD} agents (three tenths) over a third node within a minute, at a bounded rate, while no request fails`, async () => {
    scene = await Scene.start({
      nodes: 3,
      users: manyAgents(),
      settings: { limits: { agent_moves_per_second: MOVES_PER_SECOND } },
      agents: [{ id: 1, on: [0, 1] }],
    });
    await scene.cluster.node(2).child.stop();
    await using proxy = await FaultyProxy.listen(() =>
      shuffled(ALL.filter((n) => scene.cluster.node(n).alive)).map((n) => scene.cluster.node(n).address("agent")),
    );
    await using many = fleet(scene, "many", proxy, SPREAD);
    await many.line("all agents to connect", ({ msg }) => msg === "all", 120_000);
    const asked: { readonly at: number; readonly status: Promise<number> }[] = [];
    const timer = setInterval(() => {
      const agent = FIRST + ((asked.length * 7) % SPREAD);
      const answer = fetchText(scene.cluster.proxyUrl(asked.length % 2, "services/upstream/hello"), {
        headers: scene.cluster.credential(agent, FLEET_TOKEN),
        method: asked.length % 5 === 4 ? "POST" : "GET",
      });
      asked.push({ at: Date.now(), status: answer.then(({ status }) => status).catch(() => 0) });
    }, 10);
    await scene.cluster.restart(2);
    const joined = Date.now();
    const counts = async () => await Promise.all(ALL.map(async (n) => await held(scene, n)));
    const share = (SPREAD + 1) / 3;
    const isEven = (numbers: readonly number[]) => numbers.every((count) => Math.abs(count - share) <= 0.1 * share);
    await until("each node to have its share", async () => isEven(await counts()), { within: SPREAD_WITHIN });
    const took = Date.now() - joined;
    // It stays so: nobody is asked again.
    await sleep(3_000);
    const settled = many.lines.length;
    await sleep(12_000);
    clearInterval(timer);
    const statuses = await Promise.all(asked.map(async ({ status }) => await status));
    const times = many.lines.flatMap(({ msg, at }) =>
      msg === "connected" && Number(at) >= joined ? [Number(at) - joined] : [],
    );
    const busiest = Math.max(...times.map((from) => times.filter((at) => at >= from && at < from + 1_000).length));
    report("F10", { took, counts: await counts(), moves: times.length, busiest, requests: statuses.length });

    expect(busiest, "moves in one second").toBeLessThanOrEqual(1.5 * MOVES_PER_SECOND);
    expect(many.lines.length - settled).toBeLessThanOrEqual(10);
    expect(isEven(await counts())).toBe(true);
    expect(statuses.filter((status) => status !== 200)).toEqual([]);
    await many.stop();
  }, 240_000);
});

/** Most of these times that lie in one span. */
function fullest(times: readonly number[], span: number): number {
  const spans = new Map<number, number>();
  for (const time of times) spans.set(Math.floor(time / span), (spans.get(Math.floor(time / span)) ?? 0) + 1);
  return Math.max(0, ...spans.values());
}
