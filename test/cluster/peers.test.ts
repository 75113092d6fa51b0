/** Links to the other members: dialled, lost, dialled again, moved, replaced and given up. */
import { describe, expect, it } from "vitest";
import { type Failure, failure } from "../../actors/failure.ts";
import type { AgentId, NodeId } from "../../actors/ids.ts";
import { createPeers, type Dial, type Peers } from "../../src/cluster/peers.ts";
import type { Member } from "../../src/cluster/routing.ts";
import { failed } from "../../src/failed.ts";
import { checkPeer, helloOf } from "../../src/kas/greeting.ts";
import { type MemoryCarrier, memoryCarriers } from "../../src/link/carriers/memory.ts";
import type { Link, LinkLimits } from "../../src/link/link.ts";
import { encodeOpen } from "../../src/link/messages.ts";
import { openLink } from "../../src/link/multiplexer.ts";
import { StreamCluster } from "../support/stream-cluster.ts";
import { accepts, answers, call, Heard, request, Served, turns } from "../support/streams.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const self = "a.1" as NodeId;
const b = "b.1" as NodeId;
const member = (node: NodeId, address = "b:8155"): Member => ({ node, state: "alive", address, connections: 0 });
const us = { cluster: "default", self, version: "test" };
const them = { ...us, self: b };

type World = {
  readonly peers: Peers;
  readonly clock: VirtualClock;
  readonly dials: { readonly address: string; readonly at: number }[];
  readonly told: string[];
  readonly accepted: Link[];
  readonly wires: MemoryCarrier[];
  /** What a dial meets from now on. */
  meets: "kas" | "refusal" | "silence" | "a frozen kas" | "nonsense" | "a stranger";
  limits: Partial<LinkLimits>;
};

function world(): World {
  const clock = new VirtualClock();
  const dials: World["dials"] = [];
  const told: string[] = [];
  const accepted: Link[] = [];
  const wires: MemoryCarrier[] = [];
  const serve = (carrier: MemoryCarrier, identity: typeof us) =>
    accepted.push(
      openLink({
        clock,
        carrier,
        role: "acceptor",
        hello: helloOf(identity),
        check: (theirs) => checkPeer(identity, theirs, null),
        events: {
          up() {},
          open: (_payload, stream) => {
            const served: Served = new Served({} as never, stream, "b", () => served.answer());
            return served;
          },
          ready() {},
          drain() {},
          ctl() {},
          closed() {},
        },
      }),
    );
  const dial: Dial = (address, done) => {
    dials.push({ address, at: clock.now() });
    if (made.meets === "nonsense") throw failed("invalid", "no address");
    const met = made.meets;
    let over = false;
    setImmediate(() => {
      if (over || met === "silence") return;
      if (met === "refusal") {
        done(failure("node-gone", "connection refused"));
        return;
      }
      const [ours, theirs] = memoryCarriers();
      wires.push(ours);
      if (met !== "a frozen kas") serve(theirs, met === "a stranger" ? { ...them, self: "x.1" as NodeId } : them);
      done(ours);
    });
    return {
      [Symbol.dispose]() {
        over = true;
        told.push("dial given up");
      },
    };
  };
  const peers = createPeers({
    self,
    clock,
    random: () => 0.999,
    dial,
    openLink: (options) => openLink({ ...options, limits: made.limits }),
    hello: () => helloOf(us),
    check: (node) => (theirs) => checkPeer(us, theirs, node),
    secrets: [],
    heard: (node) => told.push(`heard ${node}`),
    refused: (node) => told.push(`refused ${node}`),
    events: () => ({
      open: () => {
        throw failed("protocol", "nothing is opened here");
      },
      ctl() {},
      fault() {},
    }),
  });
  const made: World = { peers, clock, dials, told, accepted, wires, meets: "kas", limits: {} };
  return made;
}

async function pass(w: World, by: number, step = 50): Promise<void> {
  for (let left = by; left > 0; left -= step) {
    w.clock.advance(Math.min(step, left));
    await turns(8);
  }
}

/** Nothing may be left once they are disposed. */
async function leave(w: World): Promise<void> {
  w.peers[Symbol.dispose]();
  await turns(20);
  for (const link of w.accepted) link.destroy(failure("cancelled", "the test is over"));
  await turns(20);
  expect(w.clock.pending).toBe(0);
  expect(w.wires.filter(({ closed }) => !closed)).toEqual([]);
}

function ask(w: World, node = b) {
  const answers: (Link | Failure)[] = [];
  const waiting = w.peers.use(node, (answer) => answers.push(answer));
  return { answers, waiting };
}

const codes = (answers: readonly (Link | Failure)[]) => answers.map((a) => ("code" in a ? a.code : "link"));

describe("peers", () => {
  it("dial a member as it appears, and keep the link whose process is the one meant", async () => {
    const w = world();
    w.peers.follow([member(self, "a:8155"), member(b), member("c.1" as NodeId, "")]);
    const { answers } = ask(w);
    expect(codes(answers)).toEqual([]);
    await turns();
    expect(codes(answers)).toEqual(["link"]);
    expect(codes(ask(w).answers)).toEqual(["link"]);
    expect(w.dials.map(({ address }) => address)).toEqual(["b:8155"]);
    expect(w.told).toEqual(["heard b.1"]);
    expect([...w.peers.links()].map(([node]) => node)).toEqual([b]);
    await leave(w);
  });

  it("answer at once for a node that is no member", async () => {
    const w = world();
    expect(codes(ask(w).answers)).toEqual(["node-gone"]);
    await leave(w);
  });

  it.each(["refusal", "a stranger", "nonsense"] as const)(
    "tell who waits when a dial meets %s, and everybody who asks until the next dial",
    async (meets) => {
      const w = world();
      w.meets = meets;
      w.peers.follow([member(b)]);
      const waiting = ask(w);
      await turns();
      expect(codes(waiting.answers)).toEqual(["node-gone"]);
      expect(codes(ask(w).answers)).toEqual(["node-gone"]);
      expect(w.told).toEqual(["refused b.1"]);
      await leave(w);
    },
  );

  it.each(["silence", "a frozen kas"] as const)(
    "let nobody wait longer than 2 s when a dial meets %s",
    async (meets) => {
      const w = world();
      w.meets = meets;
      w.peers.follow([member(b)]);
      const waiting = ask(w);
      await pass(w, 1_950);
      expect(waiting.answers).toEqual([]);
      await pass(w, 100);
      expect(codes(waiting.answers)).toEqual(["node-gone"]);
      await pass(w, 5_000);
      expect(waiting.answers).toHaveLength(1);
      await leave(w);
    },
  );

  it("do not answer whoever stopped waiting", async () => {
    const w = world();
    w.peers.follow([member(b)]);
    const gone = ask(w);
    const other = ask(w);
    gone.waiting[Symbol.dispose]();
    await turns();
    expect([codes(gone.answers), codes(other.answers)]).toEqual([[], ["link"]]);
    await leave(w);
  });

  it("dial again after 100 ms, doubling to 2 s, and start over once a link was up", async () => {
    const w = world();
    w.meets = "refusal";
    w.peers.follow([member(b)]);
    await pass(w, 10_000, 10);
    const pauses = w.dials.slice(1).map(({ at }, i) => Math.round((at - (w.dials[i]?.at ?? 0)) / 100) * 100);
    expect(pauses.slice(0, 6)).toEqual([100, 200, 400, 800, 1_600, 2_000]);
    expect(pauses.slice(6).every((pause) => pause === 2_000)).toBe(true);
    w.meets = "kas";
    await pass(w, 2_100, 10);
    expect(codes(ask(w).answers)).toEqual(["link"]);
    const { length } = w.dials;
    w.wires.at(-1)?.cutAfter(0);
    await pass(w, 110, 10);
    expect(w.dials).toHaveLength(length + 1);
    await leave(w);
  });

  it("let requests wait for the redial when a link that was up is lost, and do not call that a refusal", async () => {
    const w = world();
    w.peers.follow([member(b)]);
    await turns();
    w.wires[0]?.cutAfter(0);
    const { answers } = ask(w);
    expect(answers).toEqual([]);
    await pass(w, 200, 20);
    expect(codes(answers)).toEqual(["link"]);
    expect(w.told).toEqual(["heard b.1", "heard b.1"]);
    await leave(w);
  });

  it("drop the link of a member that goes, with whoever waits, and dial it no more", async () => {
    const w = world();
    w.peers.follow([member(b)]);
    await turns();
    const link = w.peers.link(b);
    w.peers.follow([]);
    expect(link?.state).toBe("closed");
    w.meets = "silence";
    w.peers.follow([member(b)]);
    const { answers } = ask(w);
    w.peers.follow([]);
    expect(codes(answers)).toEqual(["node-gone"]);
    const { length } = w.dials;
    await pass(w, 5_000);
    expect(w.dials).toHaveLength(length);
    expect(w.told).not.toContain("refused b.1");
    await leave(w);
  });

  it("go to a member's new address at once while there is no link, and leave a link that is up alone", async () => {
    const w = world();
    w.meets = "silence";
    w.peers.follow([member(b, "old:8155")]);
    const { answers } = ask(w);
    await turns();
    w.meets = "kas";
    w.peers.follow([member(b, "new:8155")]);
    await turns();
    expect(codes(answers)).toEqual(["link"]);
    expect(w.dials.map(({ address }) => address)).toEqual(["old:8155", "new:8155"]);
    const link = w.peers.link(b);
    w.peers.follow([member(b, "newest:8155")]);
    await turns();
    expect(w.peers.link(b)).toBe(link);
    w.wires.at(-1)?.cutAfter(0);
    await pass(w, 200);
    expect(w.dials.at(-1)?.address).toBe("newest:8155");
    await leave(w);
  });

  it("replace a link that runs out of stream ids; what runs on it goes on to its end", async () => {
    const w = world();
    w.limits = { firstStream: 2 ** 31 - 2 ** 17 - 1 };
    w.peers.follow([member(b)]);
    await turns();
    const old = w.peers.link(b);
    w.limits = {};
    const heard = new Heard();
    const stream = old?.open(new Uint8Array(1), heard, 0);
    await turns();
    const fresh = w.peers.link(b);
    expect(fresh).not.toBe(old);
    expect([fresh?.state, old?.state]).toEqual(["up", "closing"]);
    stream?.end();
    await turns();
    expect(heard.told.at(-1)).toBe("closed");
    expect(heard.told).toContain("end");
    await turns();
    expect(old?.state).toBe("closed");
    expect(w.peers.link(b)).toBe(fresh);
    expect(w.dials).toHaveLength(2);
    await leave(w);
  });

  it("leave no timer, dial or link when they are disposed, whatever they were at", async () => {
    for (const meets of ["kas", "refusal", "silence", "a frozen kas"] as const) {
      const w = world();
      w.meets = meets;
      w.peers.follow([member(b)]);
      const { answers } = ask(w);
      await leave(w);
      expect(codes(answers)).toEqual(["node-gone"]);
      const again = world();
      again.meets = meets;
      again.peers.follow([member(b)]);
      await turns();
      const told = [...again.told];
      await leave(again);
      // Giving up a dial or a greeting says nothing about the other node.
      expect(again.told.filter((what) => what !== "dial given up")).toEqual(told);
    }
  });
});

describe("requests over peer links", () => {
  const agent = 7 as AgentId;

  it("move to another holder at once when the peer refuses, and are carried once", async () => {
    const [cluster, a, second, third] = await StreamCluster.of("a", "b", "c");
    if (!a || !second || !third) throw new RangeError("no nodes");
    await using _all = cluster;
    for (let i = 0; i < 4; i++) await second.agent(agent, answers("from b"));
    await third.agent(agent, answers("from c"));
    await cluster.pass(1_000);
    second.sockets = "refused";
    a.wires.get(second.id)?.cutAfter(0);
    const calls = Array.from({ length: 8 }, () => call(a.router, agent, {}, "x"));
    await cluster.until(() => calls.every(({ heard }) => heard.isOver), 1_500);
    expect(new Set(calls.map(({ heard }) => heard.body.toString()))).toEqual(new Set(["from c"]));
    expect(cluster.served).toHaveLength(8);
    // The node is left out as a whole, not one connection of it after the other.
    for (const { stream } of calls) expect(stream.route?.attempts).toBeLessThanOrEqual(2);
    cluster.expectQuiet();
  });

  it("move on from a frozen node within seconds", async () => {
    const [cluster, a, second, third] = await StreamCluster.of("a", "b", "c");
    if (!a || !second || !third) throw new RangeError("no nodes");
    await using _all = cluster;
    await second.agent(agent, answers("from b"));
    await cluster.pass(1_000);
    second.sockets = "unanswered";
    a.wires.get(second.id)?.cutAfter(0);
    const { heard } = call(a.router, agent, {}, "x");
    await cluster.pass(500);
    await third.agent(agent, answers("from c"));
    await cluster.until(() => heard.isOver, 4_000);
    expect(heard.body.toString()).toBe("from c");
  });

  it("that were cancelled while they waited for a dial leave nothing, and are never sent", async () => {
    const [cluster, a, second] = await StreamCluster.of("a", "b");
    if (!a || !second) throw new RangeError("no nodes");
    await using _all = cluster;
    await second.agent(agent, answers());
    await cluster.pass(1_000);
    a.wires.get(second.id)?.cutAfter(0);
    await turns(3);
    const cancelled = failure("cancelled", "");
    call(a.router, agent).stream.reset({ failure: cancelled, unprocessed: false });
    const timers = cluster.cluster.clock.pending;
    const { heard, stream } = call(a.router, agent, {}, "x");
    await turns(3);
    expect(cluster.cluster.clock.pending).toBeGreaterThan(timers);
    stream.reset({ failure: failure("cancelled", ""), unprocessed: false });
    expect(heard.told).toEqual(["closed"]);
    expect(cluster.cluster.clock.pending).toBe(timers);
    await cluster.pass(1_000);
    expect([cluster.served.length, a.meter.opens.length]).toEqual([0, 0]);
    expect(a.meter.unrouteds).toEqual(["cancelled", "cancelled"]);
    cluster.expectQuiet();
  });

  it("that may have reached the agent end as outcome-unknown when the peer link is lost; the agent hears of it", async () => {
    const [cluster, a, second] = await StreamCluster.of("a", "b");
    if (!a || !second) throw new RangeError("no nodes");
    await using _all = cluster;
    await second.agent(agent, accepts);
    await cluster.pass(1_000);
    const { heard } = call(a.router, agent, {}, "x");
    await cluster.until(() => heard.told.includes("accepted"));
    a.wires.get(second.id)?.cutAfter(0);
    await cluster.until(() => heard.isOver && cluster.served[0]?.isOver === true);
    expect(heard.told).toEqual(["accepted", "reset outcome-unknown", "closed"]);
    cluster.expectQuiet();
  });

  it("whose OPEN never left when the link was lost are tried again, whatever their method", async () => {
    const [cluster, a, second] = await StreamCluster.of("a", "b");
    if (!a || !second) throw new RangeError("no nodes");
    await using _all = cluster;
    await second.agent(agent, answers());
    await cluster.pass(1_000);
    call(a.router, agent).stream.reset({ failure: failure("cancelled", ""), unprocessed: false });
    const { heard } = call(a.router, agent, {}, "once");
    await null; // the attempt is made, and nothing left our scheduler
    await null;
    expect(a.meter.opens.length).toBeGreaterThan(0);
    a.wires.get(second.id)?.cutAfter(0);
    await cluster.until(() => heard.isOver);
    expect([heard.told.at(-2), cluster.served.length]).toEqual(["end", 1]);
  });

  it("are executed or refused by the holder, never routed on", async () => {
    const [cluster, a, second, third] = await StreamCluster.of("a", "b", "c");
    if (!a || !second || !third) throw new RangeError("no nodes");
    await using _all = cluster;
    await third.agent(agent, answers());
    await cluster.pass(1_000);
    const heard = new Heard();
    const { trace: _, ...rest } = request(agent);
    const own = { requestId: "r" as never, prefer: 0 as const, exclude: [], traceparent: "", tracestate: "" };
    a.peers.link(second.id)?.open(encodeOpen({ ...rest, ...own }), heard, 0);
    await turns();
    expect(heard.told).toEqual(["reset not-owner", "closed"]);
    expect(heard.ending?.unprocessed).toBe(true);
    expect([cluster.served.length, second.inbound.opened, second.meter.opens.length]).toEqual([0, 0, 0]);
  });
});
