/** Who is alive: join, silence, proof of death, incarnations, and a view that freezes without the bus. */
import { describe, expect, it } from "vitest";
import type { NodeId, NodeName } from "../../actors/ids.ts";
import { createMembership } from "../../actors/membership.ts";
import { ROUTING_DEFAULTS } from "../../src/cluster/routing-settings.ts";
import { hear } from "../support/membership.ts";
import { type Simulated, simulate } from "../support/simulate.ts";

const settings = ROUTING_DEFAULTS.membership;
const a = (name: string, incarnation = 5) => simulate(createMembership(settings, name as NodeName, incarnation, "", 1));
const b = "b.9" as NodeId;

type Sim = ReturnType<typeof a>;
const joined = (sim: Sim = a("a")): Sim => sim.tell({ type: "join" }).advance(1_500);
const stateOf = (sim: Simulated<{ view: { peers: readonly { node: NodeId; state: string }[] } }, never, never>) =>
  sim.state.view.peers[0]?.state;
const peer = (sim: Sim) => stateOf(sim as never);

describe("join", () => {
  it("says hello, listens for 1.5 s and is up with itself in the view", () => {
    const sim = a("a").tell({ type: "join" });
    expect(sim.effects).toMatchObject([{ type: "broadcast", heartbeat: { state: "joining", hello: true } }]);
    expect(sim.advance(1_499).state.phase).toBe("joining");
    sim.advance(1);
    expect(sim.state.phase).toBe("up");
    expect(sim.state.view.homes).toEqual(["a.5"]);
  });

  it("is refused, and told what to do, when its own name is alive", () => {
    const sim = hear(a("b").tell({ type: "join" }), b);
    expect(sim.effects.at(-1)).toMatchObject({ type: "refused", failure: { code: "invalid" } });
    expect(sim.advance(5_000).state.phase).toBe("left");
  });

  it("takes the incarnation above the highest that others remember", () => {
    const sim = a("a", 5).tell({ type: "join" }).tell({ type: "stale", incarnation: 77 }).advance(1_500);
    expect(sim.state.self).toBe("a.78");
  });

  it("lets the older of two joiners of one name give way", () => {
    const sim = hear(a("b", 10).tell({ type: "join" }), b, "joining");
    expect(sim.advance(1_500).state.phase).toBe("up");
    expect(hear(a("b", 3).tell({ type: "join" }), b, "joining").state.phase).toBe("left");
  });

  it("waits for its bus before the window opens", () => {
    const sim = a("a").tell({ type: "connection", connected: false }).tell({ type: "join" }).advance(10_000);
    expect(sim.effects).toEqual([]);
    expect(sim.tell({ type: "connection", connected: true }).advance(1_500).state.phase).toBe("up");
  });

  it("listens anew when its bus went away in the window", () => {
    const sim = a("a").tell({ type: "join" }).advance(500).tell({ type: "connection", connected: false });
    expect(sim.advance(10_000).state.phase).toBe("joining");
    expect(sim.tell({ type: "connection", connected: true }).advance(1_499).state.phase).toBe("joining");
    expect(sim.advance(1).state.phase).toBe("up");
  });

  it("alone, is up at once without a word or a timer", () => {
    const sim = a("a").tell({ type: "alone" });
    expect(sim.state.phase).toBe("up");
    expect(sim.effects.some((effect) => effect.type === "broadcast")).toBe(false);
    expect(sim.pending).toBe(0);
  });
});

describe("members", () => {
  it("beats every second, 10 % more or less", () => {
    const sim = joined();
    sim.advance(100).take();
    sim.advance(20_000);
    const beats = sim.take().filter((effect) => effect.type === "broadcast").length;
    expect(beats).toBeGreaterThanOrEqual(18);
    expect(beats).toBeLessThanOrEqual(23);
  });

  it("numbers its heartbeats so that one that starts from nothing is still heard", () => {
    const seqs = (sim: Sim) => sim.take().flatMap((e) => (e.type === "broadcast" ? [e.heartbeat.seq] : []));
    const before = seqs(joined().advance(60_000));
    const sim = simulate(createMembership(settings, "a" as NodeName, 5, "", 1), 61_500);
    const after = seqs(sim.tell({ type: "join" }).advance(3_000));
    const all = [...before, ...after];
    expect(all).toEqual(all.toSorted((x, y) => x - y));
    expect(new Set(all).size).toBe(all.length);
  });

  it("answers a member it sees for the first time with a heartbeat now", () => {
    const sim = joined().advance(500);
    sim.take();
    hear(sim, b).advance(0);
    expect(sim.effects.some((effect) => effect.type === "broadcast")).toBe(true);
  });

  it("suspects after 3 s of silence and gives up after 8 s", () => {
    const sim = hear(joined(), b);
    expect(peer(sim.advance(2_900))).toBe("alive");
    expect(peer(sim.advance(400))).toBe("suspect");
    expect(sim.state.view.homes).toContain(b);
    expect(sim.advance(5_000).state.view.peers).toEqual([]);
  });

  it("does not suspect a member whose link is heard, and keeps it without being a home when the bus is silent", () => {
    const sim = hear(joined(), b);
    for (let i = 0; i < 14; i++) sim.advance(500).tell({ type: "link-heard", node: b });
    expect(peer(sim)).toBe("alive");
    for (let i = 0; i < 6; i++) sim.advance(500).tell({ type: "link-heard", node: b });
    expect(peer(sim)).toBe("mute");
    expect(sim.state.view.homes).not.toContain(b);
  });

  it("takes a refused link and an inbox nobody reads together as death, and each alone as none", () => {
    const sim = hear(joined(), b).tell({ type: "unanswered", node: b });
    expect(sim.state.peers.size).toBe(1);
    sim.advance(2_001).tell({ type: "link-refused", node: b });
    expect(sim.take()).toContainEqual({ type: "probe", node: b });
    expect(sim.state.peers.size).toBe(1);
    sim.tell({ type: "unanswered", node: b });
    expect(sim.state.peers.size).toBe(0);
    expect(hear(sim, b).state.peers.size).toBe(1);
  });

  it("drops a member that leaves at once and never takes that incarnation back", () => {
    const sim = hear(hear(joined(), b), b, "left");
    expect(sim.state.peers.size).toBe(0);
    expect(hear(sim, b).state.peers.size).toBe(0);
    expect(hear(sim, "b.10" as NodeId).state.peers.size).toBe(1);
  });

  it("replaces an incarnation by a higher one of its name, once that is up", () => {
    const sim = hear(joined(), b);
    hear(sim, "b.10" as NodeId, "joining");
    expect(sim.state.view.homes).toContain(b);
    hear(sim, "b.10" as NodeId);
    expect(sim.state.view.homes).toEqual(["a.5", "b.10"]);
    expect(hear(sim, b).state.view.homes).toEqual(["a.5", "b.10"]);
  });

  it("tells a newcomer of an incarnation that is known and gone", () => {
    const sim = hear(hear(joined(), b), b, "left");
    sim.take();
    hear(sim, "b.8" as NodeId, "joining");
    expect(sim.effects).toEqual([{ type: "outdated", to: "b.8", incarnation: 9 }]);
  });

  it("ignores a heartbeat that is older than one it took", () => {
    const sim = hear(joined(), b, "draining", { seq: 1_000_000 });
    expect(peer(hear(sim, b, "up", { seq: 999_999 }))).toBe("draining");
  });

  it("makes a draining member no home and forgets nothing else of it", () => {
    const sim = hear(hear(joined(), b), b, "draining");
    expect(sim.state.view).toMatchObject({ homes: ["a.5"], peers: [{ node: b, state: "draining" }] });
  });
});

describe("a node whose own loop was late", () => {
  it("waits four times as long before it suspects or gives up anybody", () => {
    const sim = hear(joined(), b);
    const actor = createMembership(settings, "a" as NodeName, 5, "", 1);
    const [late] = actor.receive(sim.state, { type: "sweep" }, sim.state.sweepAt + 9_000);
    expect([...late.peers.keys()]).toEqual([b]);
    expect(late.view.peers[0]?.state).toBe("alive");
    const [inTime] = actor.receive(late, { type: "sweep" }, late.sweepAt + 11_000);
    expect(inTime.view.peers[0]?.state).toBe("suspect");
  });

  it("trusts a suspect again the moment its link is heard", () => {
    const sim = hear(joined(), b).advance(3_400);
    expect(peer(sim)).toBe("suspect");
    expect(peer(sim.tell({ type: "link-heard", node: b }))).toBe("alive");
  });
});

describe("this node", () => {
  it("gives way to a newer process of its own name", () => {
    const sim = hear(joined(), "a.6" as NodeId);
    expect(sim.effects.at(-1)).toEqual({ type: "deposed", by: "a.6" });
    sim.take();
    expect(sim.advance(20_000).effects).toEqual([]);
  });

  it("says at once that it drains, and that it leaves, and nothing after that", () => {
    const sim = joined().tell({ type: "drain" });
    expect(sim.state.view.homes).toEqual([]);
    expect(sim.take().at(-1)).toMatchObject({ type: "broadcast", heartbeat: { state: "draining" } });
    sim.tell({ type: "leave" });
    expect(sim.take()).toMatchObject([{ type: "broadcast", heartbeat: { state: "left" } }]);
    expect(sim.advance(20_000).effects).toEqual([]);
  });

  it("takes a drain back: home again at once, here and for those that heard of it", () => {
    const sim = joined().tell({ type: "drain" }).tell({ type: "stay" });
    expect(sim.state).toMatchObject({ phase: "up", view: { homes: ["a.5"] } });
    expect(sim.take().at(-1)).toMatchObject({ type: "broadcast", heartbeat: { state: "up" } });
    expect(sim.tell({ type: "stay" }).take()).toEqual([]);
    const other = hear(hear(joined(), b, "draining"), b);
    expect(other.state.view.homes).toEqual(["a.5", b]);
    expect(joined().tell({ type: "leave" }).tell({ type: "stay" }).state.phase).toBe("left");
  });

  it("freezes its view without its bus, and lets only those go whose link is refused", () => {
    const sim = hear(hear(joined(), b), "c.1" as NodeId).tell({ type: "connection", connected: false });
    expect(sim.advance(60_000).state.peers.size).toBe(2);
    sim.tell({ type: "link-refused", node: b });
    expect(sim.state.view.peers.map(({ node }) => node)).toEqual(["c.1"]);
    sim.tell({ type: "connection", connected: true });
    expect(sim.advance(2_000).state.peers.size).toBe(1);
    expect(sim.advance(8_000).state.peers.size).toBe(0);
  });

  it("takes a member back with its link, which is all that can bring it back without a bus", () => {
    const sim = hear(joined(), b).tell({ type: "connection", connected: false });
    sim.tell({ type: "link-refused", node: b });
    expect(sim.state.view.peers).toEqual([]);
    sim.advance(5_000).tell({ type: "link-heard", node: b });
    expect(peer(sim)).toBe("alive");
    expect(sim.state.view.homes).toContain(b);
  });

  it("lets a member go whose link was heard and is silent for 8 s, without its bus", () => {
    const sim = hear(joined(), b).tell({ type: "connection", connected: false }).tell({ type: "link-heard", node: b });
    expect(peer(sim.advance(2_300))).toBe("suspect");
    expect(peer(sim.advance(5_500))).toBe("suspect");
    expect(sim.advance(500).state.view.peers).toEqual([]);
  });

  it("takes the others' silence for its own when most fell silent at once, for at most a minute", () => {
    const sim = hear(hear(hear(joined(), b), "c.1" as NodeId), "d.1" as NodeId).advance(20_000);
    expect(sim.state.view.homes).toEqual(["a.5", b, "c.1", "d.1"]);
    hear(sim, b);
    expect(sim.advance(50_000).state.view.homes).toEqual(["a.5"]);
  });

  it("does not take the death of one of many for its own isolation", () => {
    const sim = hear(joined(), b);
    for (let i = 0; i < 10; i++) hear(hear(sim.advance(900), "c.1" as NodeId), "d.1" as NodeId);
    expect(sim.state.view.homes).toEqual(["a.5", "c.1", "d.1"]);
  });

  it("keeps a member that is off the bus no longer a home than one that is silent there", () => {
    const sim = hear(joined(), b);
    for (let i = 0; i < 10; i++) hear(sim.advance(900), b, "up", { nats: false });
    expect(peer(sim)).toBe("mute");
    expect(peer(hear(sim, b))).toBe("alive");
  });

  it("says when its loop stood still, so that what it may have missed is doubted", () => {
    const sim = joined();
    const actor = createMembership(settings, "a" as NodeName, 5, "", 1);
    const effects = (late: number) => actor.receive(sim.state, { type: "sweep" }, sim.state.sweepAt + late)[1];
    expect(effects(1_001)).toContainEqual({ type: "stalled" });
    expect(effects(900)).not.toContainEqual({ type: "stalled" });
  });
});
