/**
 * Networks that fail between live processes: half-open sockets, black holes in one direction or both, resets, partitions. Each
 * scenario ends with its invariants on the recorded history and with the leak gate.
 */
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Direction, FaultyProxy } from "./support/faulty-proxy.ts";
import { took, wasAnswered } from "./support/history.ts";
import { request } from "./support/http.ts";
import type { LeakGate } from "./support/leak-gate.ts";
import { needNats } from "./support/need.ts";
import { printOnFailure, report, Scene } from "./support/scene.ts";
import { until } from "./support/wait.ts";

const nats = await needNats();
const ALL = [0, 1, 2] as const;
/** Target 5 s. */
const SILENT_WITHIN = 25_000;
/** Target 2 s. */
const USABLE_WITHIN = 10_000;
const BROKEN_WITHIN = 45_000;
const BLOCK = Buffer.alloc(64 * 1024);

describe.skipIf(!nats)("networks that fail", () => {
  let scene: Scene;
  let gate: LeakGate;
  printOnFailure(() => scene);

  beforeAll(async () => {
    scene = await Scene.start({
      nodes: 3,
      agents: [
        { id: 1, on: [1], env: { POD_NAME: "agentk-1" } },
        { id: 2, on: [2], env: { POD_NAME: "agentk-2" } },
        { id: 3, on: [0], env: { POD_NAME: "agentk-3" } },
      ],
    });
  }, 120_000);
  afterAll(async () => await scene?.[Symbol.asyncDispose]());
  beforeEach(async () => {
    gate = await scene.restore();
  }, 120_000);

  /** Requests from everywhere while `fail` does its worst. */
  const under = async (name: string, fail: () => Promise<void>, nodes: readonly number[] = ALL) => {
    const load = scene.history.load({ name, agents: [1, 2, 3], nodes, perSecond: 40 });
    await fail();
    return await load.stop();
  };
  const pairs: readonly (readonly [string, readonly Direction[]])[] = [
    ["both ways", ["up", "down"]],
    ["towards kas only", ["up"]],
    ["towards the agent only", ["down"]],
  ];

  const breakAtRandom = (way: FaultyProxy | undefined) => {
    const directions = pairs[Math.floor(Math.random() * pairs.length)]?.[1] ?? [];
    if (Math.random() < 0.3) way?.reset();
    else way?.blackHole(...directions);
  };

  const counted = async (metric: string, labels: Readonly<Record<string, string>>) =>
    (await scene.cluster.node(1).metrics()).sum(metric, labels);
  const superseded = () => counted("kas_agent_disconnects_total", { reason: "superseded" });
  /** Through node 0 to agent 1 on node 1, at full speed: whatever breaks, some of each is on its way. */
  const uploadsUnderWay = async (n: number) => {
    const uploads = Array.from({ length: n }, () => {
      const sent = { bytes: 0 };
      const body = new Readable({
        read() {
          sent.bytes += BLOCK.length;
          this.push(BLOCK);
        },
      });
      const url = scene.cluster.proxyUrl(0, "services/upstream/upload");
      const answer = request(url, { method: "POST", headers: scene.cluster.credential(1), body, within: 20_000 });
      const code = answer.then(
        ({ headers }) => headers["failure-code"],
        (error: unknown) => String(error),
      );
      return { sent, code: code.finally(() => body.destroy()) };
    });
    await until("the uploads under way", () => uploads.every(({ sent }) => sent.bytes > 4 * 1024 * 1024));
    return uploads;
  };

  for (const keeps of ["client", "server"] as const) {
    const side = keeps === "client" ? "the agent" : "kas";
    it(`F5: makes a link anew when a half-open socket is left at ${side}, and answers typed meanwhile`, async () => {
      const { agent, proxy } = scene.of(1);
      const landings = agent.connections.length;
      proxy.halfOpen(keeps);
      const cut = performance.now();
      const asked = await Promise.all(
        ALL.map(async (node) => await scene.history.send({ agent: 1, node, method: "POST", bound: SILENT_WITHIN })),
      );
      await agent.connected(landings + 1, 60_000);
      const back = performance.now();
      await scene.reaches({ agent: 1, node: 0 }, USABLE_WITHIN);

      const numbers = { back: back - cut, usable: performance.now() - back, slowest: Math.max(...asked.map(took)) };
      report(`F5 half-open at ${side}`, { ...numbers, ...(await scene.end(gate, { within: 20_000, moreHandles: 1 })) });
    });
  }

  it("F6: sends everything over the newer of two connections of a process, while the older is half open", async () => {
    const { agent, proxy } = scene.of(1);
    const replaced = await superseded();
    for (let round = 0; round < 3; round++) {
      const landings = agent.connections.length;
      proxy.halfOpen("server");
      await agent.connected(landings + 1, 10_000);
      const later = await Promise.all(
        Array.from({ length: 60 }, async (_, n) => {
          const method = n % 2 === 0 ? "POST" : "GET";
          return await scene.history.send({ agent: 1, node: n % 3, method, bound: 5_000 }, `newer-${round}`);
        }),
      );
      expect(later.filter((entry) => !wasAnswered(entry))).toEqual([]);
    }
    const held = async () => (await scene.cluster.node(1).metrics()).sum("kas_agent_connections");
    await until("one connection to be left", async () => (await held()) === 1, { within: 10_000 });
    expect((await superseded()) - replaced).toBe(3);
    report("F6", await scene.end(gate, { within: 20_000, moreHandles: 1 }));
  });

  it("F6: drops and counts what was on its way to the older of two connections of a pod, and ends its requests with a code", async () => {
    const { agent } = scene.of(1);
    const dropped = () => counted("kas_link_frames_dropped_total", { place: "peer" });
    const before = { dropped: await dropped(), replaced: await superseded() };
    for (let round = 0; round < 3; round++) {
      const landings = agent.connections.length;
      const uploads = await uploadsUnderWay(8);
      const second = await scene.place({ id: 1, on: [1], env: { POD_NAME: "agentk-1" } });
      const codes = await Promise.all(uploads.map(async ({ code }) => await code));
      await second.agent.child.kill();
      await agent.connected(landings + 1, 10_000);
      // Who sends on and on past the answer is cut off in the end.
      for (const code of codes) expect(code).toMatch(/^outcome-unknown$|EPIPE|ECONNRESET/);
      expect(codes).toContain("outcome-unknown");
    }
    const after = { dropped: await dropped(), replaced: await superseded() };
    expect(after.replaced - before.replaced).toBeGreaterThanOrEqual(3);
    expect(after.dropped).toBeGreaterThan(before.dropped);
    const late = after.dropped - before.dropped;
    report("F6 counted", { late, ...(await scene.end(gate, { within: 20_000, moreHandles: 1 })) });
  });

  it("F13: reaches the right agent or fails typed while links and NATS break at random", async () => {
    const ways: readonly FaultyProxy[] = [
      ...scene.toPeer,
      ...scene.toNats,
      ...[1, 2, 3].map((id) => scene.of(id).proxy),
    ];
    const heal = () => {
      for (const each of ways) each.heal();
    };
    const entries = await under("chaos", async () => {
      const end = performance.now() + 25_000;
      while (performance.now() < end) {
        const way = ways[Math.floor(Math.random() * ways.length)];
        breakAtRandom(way);
        await sleep(200 + Math.random() * 4_800);
        if (Math.random() < 0.6) way?.heal();
        if (Math.random() < 0.3) heal();
      }
      heal();
    });
    await scene.settled();
    await scene.warmAgain();

    expect(entries.filter(wasAnswered).length).toBeGreaterThan(entries.length / 4);
    report("F13", await scene.end(gate, { within: 30_000, moreHandles: 4 }));
  });

  it("F14: takes at most one hop and never reaches another agent while views differ for 5 s and longer", async () => {
    const views = async () =>
      new Set(await Promise.all(ALL.map(async (n) => (await scene.cluster.node(n).metrics()).sum("kas_ring_view"))));
    const opened = async (hop: string) =>
      (await scene.cluster.node(2).metrics()).sum("kas_streams_opened_total", { hop });
    // Nobody asks node 2, so what it opens elsewhere could only be a second hop.
    const before = { taken: await opened("inbound"), passedOn: await opened("remote") };
    const entries = await under("split", async () => {
      scene.toNats[0]?.blackHole();
      scene.toPeer[0]?.blackHole();
      await until("views to differ", async () => (await views()).size > 1, { within: 30_000 });
      await sleep(5_000);
      scene.toNats[0]?.heal();
      scene.toPeer[0]?.heal();
    }, [0, 1]);
    const taken = (await opened("inbound")) - before.taken;
    const passedOn = (await opened("remote")) - before.passedOn;
    await scene.settled();
    await scene.warmAgain();
    expect({ taken: taken > 0, passedOn }).toEqual({ taken: true, passedOn: 0 });
    expect(entries.filter(wasAnswered).length).toBeGreaterThan(entries.length / 4);
    report("F14", { taken, passedOn, ...(await scene.end(gate, { within: 30_000, moreHandles: 4 })) });
  });

  for (const [name, directions] of pairs) {
    it(`F21: ends a watch with an error when the agent's network is silent ${name}`, async () => {
      const { proxy } = scene.of(1);
      const watch = scene.history.begin(
        { agent: 1, node: 0, path: "/answer?pieces=3000&ms=100", bound: 60_000 },
        "watch",
      );
      await until("the watch to run", () => scene.upstream(1).active === 1);
      proxy.blackHole(...directions);
      const silent = performance.now();
      const entry = await watch.ended;
      const broken = performance.now() - silent;
      proxy.heal();

      expect(entry.outcome).toMatchObject({ type: "broken" });
      expect(broken).toBeLessThan(BROKEN_WITHIN);
      await scene.reaches({ agent: 1, node: 0 }, USABLE_WITHIN);
      report(`F21 agent ${name}`, { broken, ...(await scene.end(gate, { within: 20_000, moreHandles: 1 })) });
    });
  }

  it("F21: ends a watch with an error when the network between two nodes is silent", async () => {
    for (const directions of [["up", "down"], ["up"], ["down"]] as const) {
      const watch = scene.history.begin(
        { agent: 1, node: 0, path: "/answer?pieces=3000&ms=100", bound: 60_000 },
        "watch",
      );
      await until("the watch to run", () => scene.upstream(1).active === 1);
      scene.toPeer[1]?.blackHole(...directions);
      const silent = performance.now();
      const entry = await watch.ended;
      const broken = performance.now() - silent;
      scene.toPeer[1]?.heal();

      expect(entry.outcome).toMatchObject({ type: "broken" });
      expect(broken).toBeLessThan(BROKEN_WITHIN);
      report(`F21 peers ${directions.join(" and ")}`, { broken });
      await scene.settled();
      await scene.reaches({ agent: 1, node: 0 }, 20_000);
    }
    report("F21 peers", await scene.end(gate, { moreHandles: 4 }));
  });

  it("F22: fails no request that arrives exactly when its link is replaced (a new agentk every second for 15 s)", async () => {
    const load = scene.history.load({ name: "replaced", agents: [1], nodes: ALL, perSecond: 60 });
    let current = scene.of(1).agent;
    for (let round = 0; round < 8; round++) {
      const next = await scene.place({ id: 1, on: [round % 3] });
      await sleep(300);
      const { code } = await current.child.stop();
      expect(code).toBe(0);
      current = next.agent;
    }
    const entries = await load.stop();

    expect(entries.filter((entry) => !wasAnswered(entry))).toEqual([]);
    expect(entries.length).toBeGreaterThan(300);
    report("F22", await scene.end(gate, { moreHandles: 3 }));
  });
});
