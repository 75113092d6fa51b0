/**
 * Processes that die, freeze and come back while requests run. Each scenario ends with its invariants on the recorded history
 * and with the leak gate. Ceilings are five times the design's targets.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { took, wasAnswered } from "./support/history.ts";
import type { LeakGate } from "./support/leak-gate.ts";
import { needNats } from "./support/need.ts";
import { printOnFailure, report, Scene } from "./support/scene.ts";
import { TOKENS } from "./support/settings.ts";
import { until } from "./support/wait.ts";

const nats = await needNats();
const ALL = [0, 1, 2] as const;
/** Target 5 s. */
const FROZEN_WITHIN = 25_000;
const UNREGISTERED_WITHIN = 60_000;
/** Target 2 s. */
const USABLE_WITHIN = 10_000;
const CUT_WITHIN = 5_000;
/** Target 1.5 s. */
const AFTER_REDIAL = 7_500;
const COMPLETE_WITHIN = 30_000;

describe.skipIf(!nats)("processes that fail", () => {
  let scene: Scene;
  let gate: LeakGate;
  printOnFailure(() => scene);
  const held = (id: number, count: number) =>
    until(`${count} requests at agent ${id}`, () => scene.upstream(id).active >= count);

  beforeAll(async () => {
    scene = await Scene.start({
      nodes: 3,
      agents: [
        { id: 1, on: [1, 2, 0], env: { POD_NAME: "agentk-1" } },
        { id: 2, on: [2, 1, 0] },
        { id: 3, on: [0, 1, 2] },
      ],
    });
  }, 120_000);
  afterAll(async () => await scene?.[Symbol.asyncDispose]());
  beforeEach(async () => {
    gate = await scene.restore();
  }, 120_000);

  it("F5: fails requests for a frozen agent with a code, forgets it, and takes its successor while it is still frozen", async () => {
    const { agent } = scene.of(1);
    agent.child.signal("SIGSTOP");
    const frozen = performance.now();
    const others = scene.history.load({ name: "others", agents: [2, 3], nodes: ALL, perSecond: 20 });
    const asked = await Promise.all(
      ALL.flatMap((node) =>
        (["GET", "POST"] as const).map((method) =>
          scene.history.send({ agent: 1, node, method, bound: FROZEN_WITHIN }, "frozen"),
        ),
      ),
    );
    const connections = async () => (await scene.cluster.node(1).metrics()).sum("kas_agents_connected");
    await until("the frozen agent to be unregistered", async () => (await connections()) === 0, {
      within: UNREGISTERED_WITHIN,
    });
    const unregistered = performance.now() - frozen;

    const successor = await scene.place({ id: 1, on: [1, 2, 0], env: { POD_NAME: "agentk-1" } });
    const connected = performance.now();
    await scene.reaches({ agent: 1, node: 0 }, USABLE_WITHIN);
    const usable = performance.now() - connected;
    const beside = await others.stop();

    expect(asked.filter(wasAnswered)).toEqual([]);
    expect(beside.filter((entry) => !wasAnswered(entry))).toEqual([]);
    await agent.child.kill();
    const summary = await scene.end(gate, { moreHandles: 2 });
    report("F5 frozen agent", { refusedAfter: Math.max(...asked.map(took)), unregistered, usable, ...summary });
    await successor.agent.child.stop();
    await scene.place({ id: 1, on: [1, 2, 0], env: { POD_NAME: "agentk-1" } });
  });

  it("F5: takes an agent's new process at once while the old one is frozen and its socket still open", async () => {
    const before = scene.placed.findLast(({ agent }) => agent.id === 1 && agent.alive);
    before?.agent.child.signal("SIGSTOP");
    const { agent } = await scene.place({ id: 1, on: [2, 1, 0], env: { POD_NAME: "agentk-1" } });
    const connected = performance.now();
    await scene.reaches({ agent: 1, node: 0 }, USABLE_WITHIN);
    const usable = performance.now() - connected;
    const later = await Promise.all(
      Array.from({ length: 30 }, async (_, n) => await scene.history.send({ agent: 1, node: n % 3, method: "POST" })),
    );

    expect(later.filter((entry) => !wasAnswered(entry))).toEqual([]);
    await before?.agent.child.kill();
    report("F5 successor of a frozen agent", { usable, ...(await scene.end(gate, { moreHandles: 2 })) });
    await agent.child.stop();
    await scene.place({ id: 1, on: [1, 2, 0], env: { POD_NAME: "agentk-1" } });
  });

  it("F7: ends 100 streams with a code when their holder is killed, mixes none of them up, and serves on after the redial", async () => {
    const { agent } = scene.of(2);
    const landings = agent.connections.length;
    const streams = Array.from({ length: 100 }, (_, n) =>
      scene.history.begin(
        n % 2 === 0
          ? { agent: 2, node: 0, path: "/answer?pieces=2000&ms=50" }
          : { agent: 2, node: 1, method: "POST", path: "/answer?pieces=2000&ms=50" },
        "cut",
      ),
    );
    await held(2, 100);
    const killed = performance.now();
    await scene.cluster.node(2).child.kill();
    const ended = await Promise.all(streams.map(async (stream) => await stream.ended));
    const cut = performance.now() - killed;
    await agent.connected(landings + 1);
    const landed = performance.now();
    await scene.reaches({ agent: 2, node: 0, method: "POST" }, AFTER_REDIAL);
    const served = performance.now() - landed;

    expect(cut).toBeLessThan(CUT_WITHIN);
    expect(ended.filter(wasAnswered)).toEqual([]);
    expect(served).toBeLessThan(AFTER_REDIAL);
    report("F7", { cut, served, ...(await scene.end(gate, { moreHandles: 4 })) });
  });

  it("F8: cancels at the agent what a killed ingress asked for, and other callers notice nothing", async () => {
    const others = scene.history.load({ name: "others", agents: [1, 2], nodes: [1, 2], perSecond: 30 });
    const lost = Array.from({ length: 40 }, (_, n) =>
      scene.history.begin(
        { agent: 1 + (n % 2), node: 0, method: n % 4 < 2 ? "GET" : "POST", path: "/answer?pieces=2000&ms=50" },
        "lost",
      ),
    );
    await until("40 requests under way", () => scene.active >= 40);
    const killed = performance.now();
    await scene.cluster.node(0).child.kill();
    await until("the upstreams to see their callers go", () => scene.active <= 3, { within: CUT_WITHIN });
    const cancelled = performance.now() - killed;
    const beside = await others.stop();
    await Promise.all(lost.map(async (stream) => await stream.ended));

    expect(beside.filter((entry) => !wasAnswered(entry))).toEqual([]);
    report("F8", { cancelled, ...(await scene.end(gate, { moreHandles: 4 })) });
  });

  it("F11: completes every index within 30 s after a node was killed and replaced, and shows meanwhile what is missing", async () => {
    type Route = {
      readonly homes: readonly string[];
      readonly missing: readonly string[];
      readonly connections: readonly { readonly from: string }[];
    };
    const route = async (node: number, agent: number): Promise<Route> => {
      const { text } = await scene.cluster.node(node).observe(`/api/v1/route/${agent}`, TOKENS.operator);
      return JSON.parse(text);
    };
    const load = scene.history.load({ name: "replace", agents: [1, 3], nodes: [0, 1], perSecond: 20 });
    await scene.cluster.node(2).child.kill();
    const shown = until("the missing node to be shown", async () => {
      const routes = await Promise.all([1, 2, 3].map(async (agent) => await route(0, agent)));
      const nodes = (await scene.cluster.node(0).metrics()).sum("kas_ring_members");
      return nodes < 3 || routes.some(({ missing }) => missing.length > 0);
    });
    await shown;
    await scene.cluster.restart(2);
    const replaced = performance.now();
    await until(
      "every home to know every agent",
      async () => {
        for (const node of ALL) {
          for (const agent of [1, 2, 3]) {
            const { missing, connections, homes } = await route(node, agent);
            const indexed = connections.some(({ from }) => from === "home" || from === "own");
            if (missing.length > 0 || homes.length < 2 || !indexed) return false;
          }
        }
        return true;
      },
      { within: COMPLETE_WITHIN },
    );
    const complete = performance.now() - replaced;
    const beside = await load.stop();

    expect(beside.filter((entry) => !wasAnswered(entry))).toEqual([]);
    report("F11", { complete, ...(await scene.end(gate, { moreHandles: 4 })) });
  });

  it("F25: goes on without a frozen node, takes it back when it thaws, and runs nothing twice", async () => {
    const beside = scene.history.load({ name: "beside", agents: [2, 3], nodes: [0, 2], perSecond: 20 });
    const frozenToo = Array.from({ length: 10 }, (_, n) =>
      scene.history.begin({ agent: 1, node: 0, method: n % 2 === 0 ? "GET" : "POST", bound: 25_000 }, "behind"),
    );
    scene.cluster.node(1).child.signal("SIGSTOP");
    scene.avoid.add(1);
    const behind = [
      ...frozenToo,
      ...Array.from({ length: 10 }, (_, n) =>
        scene.history.begin({ agent: 1, node: 2 * (n % 2), method: "POST", bound: 25_000 }, "behind"),
      ),
    ];
    const ended = await Promise.all(behind.map(async (stream) => await stream.ended));
    await scene.reaches({ agent: 1, node: 0 }, 45_000);
    scene.cluster.node(1).child.signal("SIGCONT");
    await scene.settled();
    await scene.reaches({ agent: 1, node: 1 }, 10_000);
    const served = await beside.stop();

    expect(served.filter((entry) => !wasAnswered(entry))).toEqual([]);
    const summary = await scene.end(gate, { moreHandles: 4 });
    report("F25", { slowest: Math.max(...ended.map(took)), ...summary });
  });
});
