/**
 * NATS away, silent, slow, or one server of three: what is warm goes on, what is new ends within its bound, and nothing that
 * was said before is heard again afterwards. Each scenario ends with its invariants on the recorded history and the leak gate.
 */
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type NatsServer, startNatsCluster } from "../support/nats-server.ts";
import { took, wasAnswered } from "./support/history.ts";
import { upgrade } from "./support/http.ts";
import type { LeakGate } from "./support/leak-gate.ts";
import { needNats } from "./support/need.ts";
import { RunDir } from "./support/run-dir.ts";
import { printOnFailure, report, Scene } from "./support/scene.ts";
import { until } from "./support/wait.ts";

const nats = await needNats();
const ALL = [0, 1, 2] as const;
const AGENTS = [
  { id: 1, on: [1, 2, 0] },
  { id: 2, on: [2, 0, 1] },
  { id: 3, on: [0, 1, 2] },
];
/** Longer than `accept_within` (4 s), shorter than the default. */
const BOUND = 10_000;
const MET_WITHIN = 20_000;

const connected = async (scene: Scene, expected: number) =>
  await until(
    `${expected} nodes to be connected to NATS`,
    async () => {
      const found = await Promise.all(
        ALL.map(async (n) => (await scene.cluster.node(n).metrics()).sum("kas_nats_connected")),
      );
      return found.reduce((sum, one) => sum + one, 0) === expected;
    },
    { within: 30_000 },
  );

describe.skipIf(!nats)("one NATS server that fails", () => {
  let scene: Scene;
  let gate: LeakGate;
  printOnFailure(() => scene);

  beforeAll(async () => {
    scene = await Scene.start({ nodes: 3, agents: AGENTS });
  }, 120_000);
  afterAll(async () => await scene?.[Symbol.asyncDispose]());
  beforeEach(async () => {
    await connected(scene, 3);
    gate = await scene.restore();
  }, 120_000);

  /** Sends numbers through an upgraded connection, one every 20 ms, and says what came back. */
  const counter = async () => {
    const url = scene.cluster.proxyUrl(0, "services/upstream/echo");
    const opened = await upgrade(url, { headers: scene.cluster.credential(1) });
    if (!("socket" in opened)) throw new Error(`no upgrade: ${opened.answer.statusCode}`);
    const { socket } = opened;
    let heard = "";
    socket.on("data", (chunk: Buffer) => {
      heard += chunk.toString();
    });
    let sent = 0;
    const timer = setInterval(() => socket.write(`${sent++}\n`), 20);
    return async () => {
      clearInterval(timer);
      const all = Array.from({ length: sent }, (_, n) => `${n}\n`).join("");
      await until("the last number", () => heard.length >= all.length, { within: 5_000 }).catch(() => {});
      const closed = once(socket, "close");
      socket.destroy();
      await closed;
      return { all, heard };
    };
  };

  it("F15: serves warm routes and open streams while NATS is down for 10 s, and nothing is repeated or lost after it", async () => {
    const stop = await counter();
    const load = scene.history.load({ name: "away", agents: [1, 2, 3], nodes: ALL, perSecond: 40, bound: BOUND });
    await sleep(500);
    await scene.nats?.kill();
    await connected(scene, 0);
    await sleep(10_000);
    const beforeItIsBack = await Promise.all(
      ALL.map(async (n) => (await scene.cluster.node(n).observe("/readiness")).status),
    );
    await scene.nats?.start();
    await connected(scene, 3);
    await scene.settled();
    const entries = await load.stop();
    const { all, heard } = await stop();

    expect(heard).toBe(all);
    expect(entries.filter((entry) => !wasAnswered(entry))).toEqual([]);
    expect(beforeItIsBack, "NATS is away for all: all stay ready").toEqual([200, 200, 200]);
    report("F15 NATS killed for 10 s", await scene.end(gate, { moreHandles: 2 }));
  });

  it("F15: a node without NATS reaches the agents of one that joined meanwhile, through a third, also once NATS is away for all", async () => {
    scene.toNats[0]?.fail({ refuse: true });
    scene.toNats[0]?.reset();
    await connected(scene, 2);
    await scene.cluster.restart(2);
    const { agent } = await scene.place({ id: 4, on: [2] });
    const joined = performance.now();
    await scene.reaches({ agent: 4, node: 0, method: "POST" }, MET_WITHIN);
    const met = performance.now() - joined;
    await scene.nats?.kill();
    await connected(scene, 0);
    await sleep(2_000);
    await scene.reaches({ agent: 4, node: 0, method: "POST" }, BOUND);
    await scene.nats?.start();
    scene.toNats[0]?.heal();
    await connected(scene, 3);
    await scene.settled();
    await agent.child.stop();

    report("F15 met without NATS", { met, ...(await scene.end(gate, { moreHandles: 4 })) });
  });

  it("F15: the same while NATS is frozen for 12 s", async () => {
    const stop = await counter();
    const load = scene.history.load({ name: "frozen", agents: [1, 2, 3], nodes: ALL, perSecond: 40, bound: BOUND });
    scene.nats?.freeze();
    await sleep(12_000);
    scene.nats?.thaw();
    await connected(scene, 3);
    await scene.settled();
    const entries = await load.stop();
    const { all, heard } = await stop();

    expect(heard).toBe(all);
    expect(entries.filter((entry) => !wasAnswered(entry))).toEqual([]);
    report("F15 NATS frozen for 12 s", await scene.end(gate, { moreHandles: 2 }));
  });

  it("F15: ends cold requests within their bound while NATS is down, and reaches an agent that moved meanwhile", async () => {
    const { agent, proxy } = scene.of(1);
    const landings = agent.connections.length;
    await scene.nats?.kill();
    await connected(scene, 0);
    scene.avoid.add(1);
    proxy.reset();
    await agent.connected(landings + 1, 20_000);
    const asked = await Promise.all(
      [0, 1, 2, 0, 1, 2].map(
        async (node, n) =>
          await scene.history.send({ agent: 1, node, method: n < 3 ? "GET" : "POST", bound: BOUND }, "cold"),
      ),
    );
    await scene.nats?.start();
    await connected(scene, 3);
    const back = performance.now();
    for (const node of ALL) await scene.reaches({ agent: 1, node, method: "POST" }, 20_000);
    const reached = performance.now() - back;

    const slowest = Math.max(...asked.map(took));
    const answered = asked.filter(wasAnswered).length;
    report("F15 cold", { slowest, answered, reached, ...(await scene.end(gate, { moreHandles: 3 })) });
  });

  it("F15: goes on when one node of three is cut off from NATS, and takes it back", async () => {
    const load = scene.history.load({ name: "cut-off", agents: [1, 2, 3], nodes: ALL, perSecond: 40, bound: BOUND });
    scene.toNats[0]?.blackHole();
    await until(
      "the node that alone has no NATS to be unready",
      async () => (await scene.cluster.node(0).observe("/readiness")).status === 503,
      { within: 60_000 },
    );
    scene.toNats[0]?.heal();
    await connected(scene, 3);
    await scene.settled();
    await until("it to be ready again", async () => (await scene.cluster.node(0).observe("/readiness")).status === 200);
    const entries = await load.stop();

    expect(entries.filter((entry) => !wasAnswered(entry))).toEqual([]);
    report("F15 one node cut off", await scene.end(gate, { moreHandles: 2 }));
  });
});

describe.skipIf(!nats)("three NATS servers of which one fails", () => {
  const dir = new RunDir("nats");
  let servers: readonly NatsServer[];
  let scene: Scene;
  let gate: LeakGate;
  printOnFailure(() => scene);

  beforeAll(async () => {
    writeFileSync(dir.file("nats.conf"), 'lame_duck_duration: "30s"\nlame_duck_grace_period: "1s"\n');
    servers = await startNatsCluster(3, ["-c", dir.file("nats.conf")]);
    scene = await Scene.start({ nodes: 3, agents: AGENTS, natsServers: servers.map(({ url }) => url) });
    gate = await scene.cluster.leakGate();
  }, 120_000);
  afterAll(async () => {
    await scene?.[Symbol.asyncDispose]();
    await Promise.all((servers ?? []).map(async (server) => await server[Symbol.asyncDispose]()));
    dir[Symbol.dispose]();
  });

  it("F15: fails nothing when each server in turn is killed and started again", async () => {
    const load = scene.history.load({ name: "killed", agents: [1, 2, 3], nodes: ALL, perSecond: 40 });
    for (const server of servers) {
      await server.kill();
      await sleep(3_000);
      await connected(scene, 3);
      await server.start();
      await sleep(500);
    }
    await scene.settled();
    const entries = await load.stop();

    expect(entries.filter((entry) => !wasAnswered(entry))).toEqual([]);
    report("F15 three servers, one killed", await scene.end(gate, { moreHandles: 2 }));
    scene.history.clear();
  });

  it("F15: fails nothing when a server asks its clients to leave (lame duck)", async () => {
    const load = scene.history.load({ name: "lame", agents: [1, 2, 3], nodes: ALL, perSecond: 40 });
    servers[0]?.lameDuck();
    await until("the server to have ended", () => servers[0]?.running === false, { within: 45_000 });
    await connected(scene, 3);
    await scene.settled();
    const entries = await load.stop();

    expect(entries.filter((entry) => !wasAnswered(entry))).toEqual([]);
    report("F15 lame duck", await scene.end(gate, { moreHandles: 2 }));
  });
});
