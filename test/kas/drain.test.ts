/** A node that drains: what happens in which order, to its agents, to streams of each class, and when it is taken back. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Millis } from "../../actors/actor.ts";
import { Bag } from "../../actors/bag.ts";
import type { AgentId } from "../../actors/ids.ts";
import { watchLinks } from "../../src/cluster/link-watch.ts";
import { keepRunning, type RunningStream } from "../../src/cluster/running-stream.ts";
import { AgentMoves } from "../../src/kas/agent-moves.ts";
import { Drain } from "../../src/kas/drain.ts";
import { Readiness } from "../../src/kas/readiness.ts";
import type { StreamClass } from "../../src/link/messages.ts";
import { createMetrics, type KasMetrics } from "../../src/telemetry/metrics.ts";
import { StreamCluster } from "../support/stream-cluster.ts";
import type { Kas, TestAgent } from "../support/stream-node.ts";
import { accepts, type Behaviour, call, Served } from "../support/streams.ts";

const DRAIN: Millis = 60_000;
const GRACE: Millis = 2_000;

/** Answers begin and do not end. */
const begins: Behaviour = (open, stream, by) => {
  const served = new Served(open, stream, by);
  stream.accept();
  stream.head(new Uint8Array());
  stream.data(Buffer.from("half"));
  return served;
};

/** A node whose drain is looked at. */
class Draining implements Disposable {
  readonly told: string[] = [];
  readonly callers = new Bag<RunningStream>();
  readonly readiness: Readiness;
  readonly metrics: KasMetrics;
  readonly drain: Drain;
  readonly router;
  readonly #clock;
  readonly began: Millis;

  constructor(cluster: StreamCluster, kas: Kas) {
    const { clock } = cluster.cluster;
    const { routing } = kas.node;
    this.#clock = clock;
    this.began = clock.now();
    this.metrics = createMetrics({ node: "a", version: "test", wholeProcess: false });
    this.readiness = new Readiness({ routing, nats: () => true, clock, natsAwayAfter: 10_000 });
    this.router = keepRunning(kas.router, this.callers);
    const listen = { listen_grace_period: GRACE };
    this.drain = new Drain({
      config: {
        drain_timeout: DRAIN,
        agent: { listen, kubernetes_api: { listen } },
        timings: { drain_spread: 4_000, drain_watches_within: 10_000, drain_requests_within: 20_000 },
      },
      clock,
      log: { info() {}, warn: (text) => this.say(text), error: (text) => this.say(text) },
      node: { routing, holder: kas.holder, callers: this.callers },
      readiness: this.readiness,
      listeners: { close: (...names) => this.say(`closed ${names}`) },
      metrics: this.metrics,
      moves: new AgentMoves({ holder: kas.holder, routing, wallClock: () => 0, seed: 1 }),
      servers: { drain: () => this.say("servers"), active: () => routing.counts().requests },
    });
  }

  say(text: string): void {
    this.told.push(`${Math.round(this.#clock.now() - this.began)} ${text}`);
  }

  [Symbol.dispose](): void {
    this.drain[Symbol.dispose]();
    this.readiness[Symbol.dispose]();
    this.metrics[Symbol.dispose]();
  }
}

const move = (agent: TestAgent) => agent.link.close();

describe("a drain", () => {
  let cluster: StreamCluster;
  let a: Kas;
  let b: Kas;
  let on: Draining;
  let watching: readonly Disposable[] = [];
  beforeEach(async () => {
    const [all, first, second] = await StreamCluster.of("a", "b");
    if (!first || !second) throw new RangeError("no nodes");
    [cluster, a, b] = [all, first, second];
    on = new Draining(cluster, a);
    watching = [a, b].map(({ node, peers }) =>
      watchLinks({
        clock: cluster.cluster.clock,
        links: () => peers.links(),
        heard: (peer, at) => node.routing.peerHeard(peer, at),
      }),
    );
  });
  afterEach(async () => {
    for (const watch of watching) watch[Symbol.dispose]();
    on[Symbol.dispose]();
    await cluster[Symbol.asyncDispose]();
  });

  const agents = async (count: number, behaviour: Behaviour = accepts) => {
    const connected: TestAgent[] = [];
    for (let n = 1; n <= count; n++) connected.push(await a.agent(n as AgentId, behaviour));
    await cluster.pass(500);
    return connected;
  };
  const open = (from: Kas | Draining, agent: number, streamClass: StreamClass) =>
    call(from.router, agent as AgentId, { class: streamClass, upgrade: streamClass === "interactive" }, null).heard;
  /** When each of these was over, since now. */
  async function ends(streams: Readonly<Record<string, { readonly isOver: boolean }>>, within: Millis) {
    const ended: Record<string, Millis> = {};
    for (let passed = 0; passed <= within; passed += 100) {
      for (const [name, { isOver }] of Object.entries(streams)) if (isOver) ended[name] ??= passed;
      await cluster.pass(100);
    }
    return ended;
  }

  it("goes off the ring and out of readiness at once, closes its listeners after the grace, and leaves when nothing is left", async () => {
    on.readiness.changed();
    const left = on.drain.run().then(() => on.say("left"));
    expect(on.readiness.probe()).toMatchObject({ ready: false, phase: "draining" });
    expect(a.node.routing.phase).toBe("draining");
    await cluster.pass(GRACE + 1_000);
    await left;
    expect(on.told).toEqual(["0 servers", "2000 closed agent,api,kubernetes_api", "2000 left"]);
    expect(b.node.routing.members().map(({ node }) => node)).toEqual([b.id]);
  });

  it("tells agents one after the other, the idle ones first, and each once", async () => {
    const all = await agents(40);
    const busy = all.slice(0, 5);
    for (const n of [1, 2, 3, 4, 5]) open(b, n, "watch");
    await cluster.pass(500);
    void on.drain.run();
    const told = () => all.filter(({ events }) => events.includes("drain"));
    await cluster.pass(100, 50);
    expect(told().length).toBeGreaterThan(10);
    expect(told().length).toBeLessThan(30);
    expect(told().filter((agent) => busy.includes(agent))).toEqual([]);
    await cluster.pass(400, 50);
    expect(told()).toHaveLength(40);
    await cluster.pass(1_000);
    for (const { events } of all) expect(events.filter((event) => event === "drain")).toHaveLength(1);
    for (const agent of all) move(agent);
    await cluster.pass(DRAIN);
  });

  it("ends watches first and evenly, then other requests, and interactive streams at its end, whoever asked", async () => {
    await agents(1, begins);
    await b.agent(2 as AgentId, begins);
    await cluster.pass(500);
    const streams = {
      watch: open(b, 1, "watch"),
      watchOfCaller: open(on, 2, "watch"),
      watchHere: open(on, 1, "watch"),
      unary: open(b, 1, "unary"),
      unaryOfCaller: open(on, 2, "unary"),
      bulk: open(on, 2, "bulk"),
      exec: open(b, 1, "interactive"),
      execOfCaller: open(on, 2, "interactive"),
    };
    await cluster.pass(500);
    void on.drain.run();
    const ended = await ends(streams, DRAIN + 2_000);
    const watches = [ended.watch ?? 0, ended.watchHere ?? 0, ended.watchOfCaller ?? 0].toSorted((x, y) => x - y);
    expect(watches[0]).toBeGreaterThanOrEqual(GRACE);
    expect(watches[0]).toBeLessThan(GRACE + 500);
    expect(watches[1]).toBeGreaterThan(5_000);
    expect(watches[2]).toBeGreaterThan(9_000);
    expect(watches[2]).toBeLessThan(11_000);
    for (const at of [ended.unary, ended.unaryOfCaller, ended.bulk]) expect(at).toBeGreaterThanOrEqual(20_000);
    for (const at of [ended.unary, ended.unaryOfCaller, ended.bulk]) expect(at).toBeLessThan(21_000);
    expect(ended.execOfCaller).toBeGreaterThanOrEqual(DRAIN);
    expect(ended.exec).toBeGreaterThanOrEqual(DRAIN);
    // Half an answer never ends as a whole one, and nobody is told that nothing ran.
    for (const heard of Object.values(streams)) expect(heard.told).not.toContain("end");
    for (const name of [
      "watch",
      "watchOfCaller",
      "watchHere",
      "unary",
      "unaryOfCaller",
      "bulk",
      "execOfCaller",
    ] as const) {
      expect(streams[name].ending?.failure.code, name).toBe("outcome-unknown");
    }
    expect(on.told).toContainEqual(expect.stringMatching(/drain timeout: streams are cut$/));
  });

  it("lets a request that may run twice and has no answer yet go to the agent's new connection", async () => {
    const [first] = await agents(1);
    const { heard } = call(b.router, 1 as AgentId, { class: "watch", method: "GET", idempotent: true });
    await cluster.pass(500);
    void on.drain.run();
    await b.agent(1 as AgentId, begins);
    await cluster.until(() => heard.told.includes("data"));
    expect(heard.ending).toBeNull();
    if (first) move(first);
    await cluster.pass(DRAIN);
  });

  it("waits for agents while another node takes them, and not for ever", async () => {
    const [one, two] = await agents(2);
    let over = false;
    void on.drain.run().then(() => {
      over = true;
    });
    await cluster.pass(GRACE + 5_000);
    expect(over).toBe(false);
    if (one) move(one);
    await cluster.pass(1_000);
    expect(over).toBe(false);
    expect(two?.events).toContain("drain");
    await cluster.pass(5_000);
    expect(over).toBe(true);
  });

  it("of an operator moves agents only, and can be taken back: ready, on the ring, and what connected meanwhile is found", async () => {
    const [moved] = await agents(1, begins);
    const watch = open(b, 1, "watch");
    await cluster.pass(500);
    on.drain.begin();
    expect(on.readiness.ready()).toBe(false);
    await cluster.pass(70_000);
    expect(moved?.events).toContain("drain");
    expect(watch.isOver).toBe(false);
    expect(a.node.routing.phase).toBe("draining");
    for (const id of [100, 101, 102, 103]) await b.agent(id as AgentId);
    on.drain.stay();
    expect(on.readiness.ready()).toBe(true);
    await cluster.pass(3_000);
    const states = b.node.routing.members().map(({ state }) => state);
    expect([a.node.routing.phase, ...states]).toEqual(["up", "alive", "alive"]);
    expect(a.node.routing.view).toBe(b.node.routing.view);
    await a.agent(104 as AgentId);
    for (const id of [100, 101, 102, 103, 104]) {
      for (const from of [a, b]) {
        const { heard } = call(from.router, id as AgentId, { acceptWithin: 1_000 });
        await cluster.until(() => heard.isOver);
        expect(heard.told, `${id} from ${from.id}`).toContain("end");
      }
    }
    if (moved) move(moved);
  });

  it("of an operator is refused while the node joins, and taking back what was not begun changes nothing", async () => {
    const c = cluster.start("c");
    using joining = new Draining(cluster, c);
    void c.node.routing.join();
    expect(() => joining.drain.begin()).toThrow(/still joining/);
    joining.drain.stay();
    await cluster.pass(3_000);
    expect([c.node.routing.phase, joining.readiness.ready()]).toEqual(["up", true]);
  });

  it("of an operator becomes the real one at SIGTERM, which cannot be taken back", async () => {
    on.drain.begin();
    const left = on.drain.run();
    expect(() => on.drain.stay()).toThrow(/cannot stay/);
    await cluster.pass(GRACE + 500);
    await left;
    expect(a.node.routing.phase).toBe("left");
  });
});

it("a drain of the only node waits for no agent: there is nowhere to go", async () => {
  const [cluster, kas] = await StreamCluster.of("a");
  if (!kas) throw new RangeError("no node");
  await using all = cluster;
  using on = new Draining(cluster, kas);
  await kas.agent(1 as AgentId);
  await all.pass(200);
  const left = on.drain.run();
  await all.pass(GRACE + 200);
  await left;
});
