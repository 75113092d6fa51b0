/** A registrar and a home index, each told by hand what the other would say. */
import { describe, expect, it } from "vitest";
import type { ChannelMessage, Entry } from "../../actors/channel.ts";
import { createHome } from "../../actors/home.ts";
import { ask, type HomeSettings } from "../../actors/home-index.ts";
import type { AgentId, ConnectionId, NodeId } from "../../actors/ids.ts";
import { createRegistrar } from "../../actors/registrar.ts";
import { noSlots } from "../../actors/ring.ts";
import { simulate } from "../support/simulate.ts";

const a = "a.1" as NodeId;
const b = "b.1" as NodeId;
const self = "h.1" as NodeId;
const settings = { batch: 10, retry: 400, retryMost: 3_200, digest: 3_000, partBytes: 200 };
const homeSettings: HomeSettings = {
  matureAfter: 30_000,
  needSnapEvery: 1_000,
  rememberDepartures: 600_000,
  departures: 3,
  watchFor: 5_000,
};
const everything = noSlots().fill(255);
const entry = (connection: number, changes: Partial<Entry> = {}): Entry => ({
  connection: connection as ConnectionId,
  agent: (1 + (connection % 5)) as AgentId,
  instance: `pod-${connection}`,
  process: "p",
  link: 1,
  lost: [],
  since: connection,
  draining: false,
  ...changes,
});

const registrar = (epoch = 1) => simulate(createRegistrar(settings, epoch, 1));
const home = (...members: NodeId[]) =>
  simulate(createHome(self, homeSettings), 1_000).tell({ type: "members", self, members: new Set(members), wall: 0 });
type Home = ReturnType<typeof home>;
const from = (sim: Home, node: NodeId, message: ChannelMessage) =>
  sim.tell({ type: "channel", from: node, message, wall: 77 });
const sentBy = (sim: ReturnType<typeof registrar>) =>
  sim.take().flatMap((effect) => (effect.type === "send" ? [effect.message] : []));
const snap = (seq: number, entries: readonly Entry[], changes: object = {}): ChannelMessage => ({
  type: "snap",
  epoch: 1,
  seq,
  part: 0,
  parts: 1,
  slots: everything,
  entries,
  ...changes,
});
const routes = (sim: Home, agent: number) =>
  ask(sim.state, agent as AgentId, homeSettings, sim.now()).routes.map((r) => `${r.node}#${r.connection}`);

describe("a registrar", () => {
  it("starts with a snapshot, then sends one delta for what changed within 10 ms", () => {
    const sim = registrar().tell({ type: "assign", slots: everything, entries: [entry(1)] });
    expect(sentBy(sim.advance(10))).toMatchObject([{ type: "snap", epoch: 1, seq: 1, entries: [{ connection: 1 }] }]);
    sim.tell({ type: "put", entry: entry(2) }).tell({ type: "remove", connection: 1 as ConnectionId });
    expect(sentBy(sim.advance(10))).toMatchObject([{ type: "delta", seq: 2, put: [{ connection: 2 }], removed: [1] }]);
  });

  it("tells again as a snapshot what nobody acknowledges, less and less often", () => {
    const sim = registrar()
      .tell({ type: "assign", slots: everything, entries: [entry(1)] })
      .advance(10);
    const at: number[] = [];
    for (let i = 0; i < 1_000; i++) if (sentBy(sim.advance(10)).length > 0) at.push(sim.now());
    const gaps = at.slice(1).map((t, i) => t - (at[i] ?? 0));
    expect(gaps[0]).toBeLessThanOrEqual(800);
    expect(Math.max(...gaps)).toBeLessThanOrEqual(3_210);
    expect(at.length).toBeLessThan(8);
  });

  it("says which connections are registered once they are acknowledged, and only of its own epoch", () => {
    const sim = registrar(3)
      .tell({ type: "assign", slots: everything, entries: [entry(1)] })
      .advance(10);
    sim.take();
    sim.tell({ type: "acked", position: { epoch: 2, seq: 1 } }).tell({ type: "acked", position: { epoch: 3, seq: 9 } });
    expect(sim.take()).toEqual([]);
    sim.tell({ type: "acked", position: { epoch: 3, seq: 1 } });
    expect(sim.take()).toEqual([{ type: "registered", connection: 1 }]);
  });

  it("cuts a large snapshot into parts of one position", () => {
    const entries = Array.from({ length: 20 }, (_, i) => entry(i + 1));
    const sim = registrar().tell({ type: "assign", slots: everything, entries }).advance(10);
    const parts = sentBy(sim);
    expect(parts.length).toBeGreaterThan(3);
    const sim2 = home(a);
    for (const part of parts.toReversed()) {
      expect(sim2.state.channels.get(a)?.entries.size ?? 0).toBe(0);
      from(sim2, a, part);
    }
    expect(sim2.state.channels.get(a)?.entries.size).toBe(20);
  });
});

describe("a home", () => {
  it("takes a delta only right after what it has, and asks for a snapshot at most once a second", () => {
    const sim = from(home(a), a, snap(1, [entry(1)]));
    sim.take();
    from(sim, a, { type: "delta", epoch: 1, seq: 3, put: [entry(2)], removed: [] });
    from(sim, a, { type: "delta", epoch: 1, seq: 4, put: [entry(3)], removed: [] });
    expect(sim.take()).toEqual([{ type: "need-snap", to: a }]);
    expect(sim.state.channels.get(a)?.entries.size).toBe(1);
    from(sim, a, { type: "delta", epoch: 1, seq: 2, put: [entry(2)], removed: [] });
    expect(sim.take()).toEqual([{ type: "ack", to: a, position: { epoch: 1, seq: 2 } }]);
  });

  it("does not go back: what is older is acknowledged with what is stored", () => {
    const sim = from(home(a), a, snap(5, [entry(1)]));
    sim.take();
    from(sim, a, snap(4, []));
    expect(sim.take()).toEqual([{ type: "ack", to: a, position: { epoch: 1, seq: 5 } }]);
    expect(routes(sim, 2)).toEqual(["a.1#1"]);
    from(sim, a, snap(1, [], { epoch: 2 }));
    expect(routes(sim, 2)).toEqual([]);
  });

  it("ignores who is no member, and forgets all of one who goes", () => {
    const sim = from(home(a), b, snap(1, [entry(1)]));
    expect(sim.take()).toEqual([]);
    from(sim, a, snap(1, [entry(1)])).tell({ type: "members", self, members: new Set(), wall: 5 });
    expect(routes(sim, 2)).toEqual([]);
    expect(sim.state.agents.size).toBe(0);
  });

  it("names the members it has not heard of a slot from, and is sure only after 30 s", () => {
    const sim = from(home(a, b), a, snap(1, []));
    const asked = () => ask(sim.state, 9 as AgentId, homeSettings, sim.now());
    expect(asked().missing).toEqual([b]);
    from(sim, b, snap(1, []));
    expect(asked()).toMatchObject({ missing: [], mature: false });
    sim.advance(30_000);
    expect(asked().mature).toBe(true);
    sim.tell({ type: "doubt" });
    expect(asked().missing).toEqual([a, b]);
    from(sim, a, { type: "digest", epoch: 1, seq: 1, count: 0, hash: 0 });
    expect(asked().missing).toEqual([b]);
  });

  it("remembers when and where an agent was last, and is unsure when it had to forget too soon", () => {
    const sim = from(
      home(a),
      a,
      snap(
        1,
        [1, 2, 3, 4].map((n) => entry(n)),
      ),
    );
    sim.advance(100_000);
    from(sim, a, snap(2, [entry(2), entry(3), entry(4)]));
    sim.advance(50);
    expect(ask(sim.state, 2 as AgentId, homeSettings, sim.now())).toMatchObject({
      mature: true,
      seen: { ago: 50, wall: 77, node: a },
    });
    from(sim, a, snap(3, []));
    expect(ask(sim.state, 2 as AgentId, homeSettings, sim.now())).toMatchObject({ mature: false, seen: null });
  });

  it("pushes a new connection to who watches the agent, until the watch ends", () => {
    const sim = home(a).tell({ type: "watch", agent: 2 as AgentId, by: b, within: 60_000 });
    from(sim, a, snap(1, [entry(1)]));
    expect(sim.take()).toContainEqual({
      type: "found",
      to: b,
      agent: 2,
      routes: [{ node: a, connection: 1, draining: false }],
    });
    sim.advance(6_100);
    expect(sim.state.watches.size).toBe(0);
    expect(sim.pending).toBe(0);
  });

  it("hands out no superseded entry and tells its holder, also across nodes and again at its next digest", () => {
    const pod = { instance: "pod", agent: 2 as AgentId };
    const sim = from(home(a, b), a, snap(1, [entry(1, { ...pod, since: 10 })]));
    from(sim, b, snap(1, [entry(8, { ...pod, process: "q", since: 20 })]));
    expect(sim.take()).toContainEqual({ type: "superseded", holder: a, connection: 1 });
    expect(routes(sim, 2)).toEqual(["b.1#8"]);
    const hash = (sim.state.channels.get(a)?.hash ?? 0) >>> 0;
    from(sim, a, { type: "digest", epoch: 1, seq: 1, count: 1, hash });
    expect(sim.take()).toEqual([{ type: "superseded", holder: a, connection: 1 }]);
  });

  it("supersedes in either order of arrival, and only what is named or older", () => {
    const pod = { instance: "pod", agent: 2 as AgentId };
    const sim = from(home(a, b), b, snap(1, [entry(8, { ...pod, link: 3, lost: [1] })]));
    from(sim, a, snap(1, [entry(1, { ...pod, link: 1 }), entry(2, { ...pod, link: 2 })]));
    expect(routes(sim, 2).toSorted()).toEqual(["a.1#2", "b.1#8"]);
  });
});
