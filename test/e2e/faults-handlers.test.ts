/**
 * Handlers that throw and handlers that never return, injected into one of three live nodes. Each scenario ends with its
 * invariants on the recorded history and with the leak gate.
 */
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { codeOf, type Entry, type Load, summary, took, wasAnswered } from "./support/history.ts";
import type { LeakGate } from "./support/leak-gate.ts";
import { needNats } from "./support/need.ts";
import { printOnFailure, report, Scene } from "./support/scene.ts";
import { inTime, until } from "./support/wait.ts";

const nats = await needNats();
const WHOLE_WITHIN = 30_000;
/** A probe of a second that fails three times, as a kubelet would do it. */
const PROBES = 3;
const PROBE_WITHIN = 1_000;
/** A membership that started anew listens for 1.5 s before it is a home again. */
const REJOINED = 3_000;
/** A machine too busy to run any of the processes for 4 s breaks links of its own: then once more. */
/** Longer than silence takes to make a node none. */
const STAYS_FOR = 12_000;
const FAULT = join(tmpdir(), `kas-fault-${process.pid}`);

describe.skipIf(!nats)("handlers that fail", () => {
  const loads: { stop(): Promise<unknown> }[] = [];
  let scene: Scene;
  let gate: LeakGate;
  printOnFailure(() => scene);

  beforeAll(async () => {
    const preload = new URL("./support/inject.ts", import.meta.url).pathname;
    scene = await Scene.start({
      nodes: 3,
      env: { NODE_OPTIONS: `--import=${preload} --disable-warning=ExperimentalWarning`, INJECT_FILE: FAULT },
      agents: [
        { id: 1, on: [1, 2, 0], env: { POD_NAME: "agentk-1" } },
        { id: 2, on: [2, 1, 0] },
        { id: 3, on: [0, 2, 1] },
      ],
    });
  }, 120_000);
  afterAll(async () => await scene?.[Symbol.asyncDispose]());
  afterEach(async () => {
    await Promise.all(loads.splice(0).map(async (load) => await load.stop()));
  });
  beforeEach(async () => {
    gate = await scene.restore();
  }, 120_000);

  const strike = (fault: string) => {
    writeFileSync(FAULT, fault);
    scene.cluster.node(1).child.signal("SIGUSR2");
  };
  /** Every node sees the same three homes, all the time. */
  const agree = async (forMillis: number) => {
    const until = performance.now() + forMillis;
    while (performance.now() < until) {
      const all = await Promise.all(scene.cluster.nodes.map(async (node) => await node.metrics()));
      expect(new Set(all.map((metrics) => metrics.sum("kas_ring_view"))).size, "views of three nodes").toBe(1);
      await sleep(250);
    }
  };
  /** An error of ours is in no invariant, but that it ran once at most. */
  const forget = (entries: readonly Entry[]): number => {
    for (const { id } of entries) {
      const ran = [...scene.history.executions(id).values()].reduce((sum, count) => sum + count, 0);
      expect(ran).toBeLessThanOrEqual(1);
      const { entries: all } = scene.history;
      all.splice(
        all.findIndex((entry) => entry.id === id),
        1,
      );
    }
    return entries.length;
  };
  const load = (load: Load) => {
    const started = scene.history.load(load);
    loads.push(started);
    return started;
  };
  const others = (name: string) => load({ name, agents: [2, 3], nodes: [0, 2], perSecond: 20 });

  it.each(["home", "registrar", "membership", "connection", "request"])(
    "F25: starts a handler anew that throws (%s), disturbs no other agent, and is whole again within 30 s",
    async (actor) => {
      const crashed = () => scene.cluster.node(1).child.stderr().split("threw and starts from nothing").length;
      const before = crashed();
      const beside = others("beside");
      const own = load({ name: "own", agents: [1], nodes: [0, 1], perSecond: 10, bound: 20_000 });
      strike(`throw ${actor}`);
      await until("the handler to throw", () => crashed() > before, { within: 10_000, every: 250 });
      const threw = performance.now();
      await sleep(REJOINED);
      await scene.settled(WHOLE_WITHIN);
      for (const node of [0, 1, 2]) await scene.reaches({ agent: 1, node, method: "POST" }, WHOLE_WITHIN);
      const whole = performance.now() - threw;
      await agree(actor === "membership" ? STAYS_FOR : 1_000);
      const [served, touched] = [await beside.stop(), await own.stop()];
      const hit = forget(touched.filter((entry) => codeOf(entry) === "internal"));

      expect(served.filter((entry) => !wasAnswered(entry))).toEqual([]);
      expect(whole).toBeLessThan(WHOLE_WITHIN);
      expect(crashed()).toBe(before + 1);
      expect(hit, "only the request that the handler threw at").toBeLessThanOrEqual(1);
      report(`F25 throws ${actor}`, {
        whole,
        own: summary(touched).failed,
        ...(await scene.end(gate, { moreHandles: 4 })),
      });
    },
  );

  it("F25: fails the liveness probe of a node whose handler never returns, serves other agents as before, and runs nothing twice", async () => {
    const calm = others("calm");
    await sleep(3_000);
    const before = summary(await calm.stop());
    const beside = others("beside");
    const behind = Array.from({ length: 12 }, (_, n) =>
      scene.history.begin({ agent: 1, node: 2 * (n % 2), method: n % 3 ? "POST" : "GET", bound: 25_000 }, "behind"),
    );
    strike("hang home");
    const hung = performance.now();
    const late = Array.from({ length: 12 }, (_, n) =>
      scene.history.begin({ agent: 1, node: 2 * (n % 2), method: n % 3 ? "POST" : "GET", bound: 25_000 }, "late"),
    );
    const alive = async () =>
      await inTime("the probe", PROBE_WITHIN, scene.cluster.node(1).observe("/liveness")).then(
        ({ status }) => status === 200,
        () => false,
      );
    let failures = 0;
    await until(
      "the liveness probe to fail",
      async () => {
        failures = (await alive()) ? 0 : failures + 1;
        return failures >= PROBES;
      },
      { within: WHOLE_WITHIN },
    );
    const found = performance.now() - hung;
    await scene.cluster.node(1).child.kill();
    await scene.cluster.restart(1);
    await scene.settled();
    for (const node of [0, 1, 2]) await scene.reaches({ agent: 1, node, method: "POST" }, WHOLE_WITHIN);
    const ended = await Promise.all([...behind, ...late].map(async (stream) => await stream.ended));
    const during = await beside.stop();

    expect(during.filter((entry) => !wasAnswered(entry))).toEqual([]);
    expect(summary(during).p99, "five times, and what a busy machine adds").toBeLessThan(5 * before.p99 + 1_000);
    expect(found).toBeLessThan(WHOLE_WITHIN);
    const numbers = { found, slowest: Math.max(...ended.map(took)), before: before.p99, during: summary(during).p99 };
    report("F25 never returns", { ...numbers, ...(await scene.end(gate, { moreHandles: 4 })) });
  });
});
