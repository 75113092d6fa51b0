/** Whom a node tells of its members, and what becomes of strangers that it is told of. */
import { describe, expect, it } from "vitest";
import type { NodeId } from "../../actors/ids.ts";
import { hear, joinedNode, type MembershipSim } from "../support/membership.ts";

const b = "b.9" as NodeId;

describe("members that another node does not know", () => {
  const c = "c.3" as NodeId;
  /** Knows b, which is off the bus, and c, which is on it. */
  const between = () => hear(hear(joinedNode(), c), b, "up", { nats: false, view: 1 });
  const told = (sim: MembershipSim) => sim.take().filter((effect) => effect.type === "introduce");

  it("are told to one that is off the bus and sees others, but for itself", () => {
    const sim = between();
    expect(told(sim)).toEqual([{ type: "introduce", to: b, peers: [{ node: c, address: "b:1" }] }]);
  });

  it("are told again only when either view has changed, or after 10 s", () => {
    const sim = between();
    sim.take();
    for (let i = 0; i < 9; i++) hear(hear(sim.advance(1_000), c), b, "up", { nats: false, view: 1 });
    expect(told(sim)).toEqual([]);
    hear(sim, b, "up", { nats: false, view: 2 });
    expect(told(sim)).toHaveLength(1);
    for (let i = 0; i < 10; i++) hear(hear(sim.advance(1_000), c), b, "up", { nats: false, view: 2 });
    expect(told(sim)).toHaveLength(1);
  });

  it("are not told to one that is on the bus or sees what we see", () => {
    const sim = hear(joinedNode(), c);
    sim.take();
    hear(sim, b, "up", { view: 1 });
    hear(sim, b, "up", { nats: false, view: sim.state.view.hash });
    expect(told(sim)).toEqual([]);
  });

  it("are dialled by who hears of them, and members only once their link is heard", () => {
    const peers = [{ node: c, address: "c:1" }];
    const sim = joinedNode().tell({ type: "introduced", peers });
    expect(sim.state.peers.size).toBe(0);
    sim.tell({ type: "connection", connected: false }).take();
    sim.tell({ type: "introduced", peers });
    expect(sim.take()).toMatchObject([{ type: "viewed", view: { peers: [] } }]);
    expect(sim.state.peers.get(c)).toMatchObject({ state: "lost", address: "c:1" });
    sim.tell({ type: "introduced", peers });
    expect(sim.take()).toEqual([]);
    expect(sim.tell({ type: "link-heard", node: c }).state.view.peers).toEqual([{ node: c, state: "alive" }]);
  });

  it("take the place of an earlier process of their name that is lost", () => {
    const sim = hear(joinedNode(), c)
      .tell({ type: "connection", connected: false })
      .tell({ type: "link-refused", node: c });
    expect(sim.state.view.lost).toEqual([c]);
    const next = "c.4" as NodeId;
    sim.tell({ type: "introduced", peers: [{ node: next, address: "c:1" }] });
    expect(sim.state.view.lost).toEqual([next]);
    expect([...sim.state.peers.keys()]).toEqual([next]);
  });

  it("take the place of an earlier process of their name once their link is heard, also of one that seems alive", () => {
    const sim = hear(joinedNode(), c).tell({ type: "connection", connected: false });
    const next = "c.4" as NodeId;
    sim.tell({ type: "introduced", peers: [{ node: next, address: "c:1" }] });
    expect(sim.state.view.peers).toEqual([{ node: c, state: "alive" }]);
    sim.tell({ type: "link-heard", node: next });
    expect(sim.state.view.peers).toEqual([{ node: next, state: "alive" }]);
    expect(hear(sim, c).state.view.peers).toEqual([{ node: next, state: "alive" }]);
  });

  it("are dialled no more once the bus is back: whoever is there says so itself", () => {
    const sim = joinedNode().tell({ type: "connection", connected: false });
    sim.tell({ type: "introduced", peers: [{ node: c, address: "c:1" }] }).take();
    sim.tell({ type: "connection", connected: true });
    expect(sim.take()).toContainEqual({ type: "viewed", view: expect.objectContaining({ lost: [] }) });
  });

  it("are ignored under our own name, or as a process that is gone or was replaced", () => {
    const sim = hear(hear(joinedNode(), b, "left"), c).tell({ type: "connection", connected: false });
    const peers = ["a.9", "b.9", "b.8", "c.2", "c.3"].map((node) => ({ node: node as NodeId, address: "x:1" }));
    sim.take();
    expect(sim.tell({ type: "introduced", peers }).take()).toEqual([]);
    expect([...sim.state.peers.keys()]).toEqual([c]);
  });
});
