/** When silence means death: each limit is a setting, and moves what it names. */
import { describe, expect, it } from "vitest";
import type { NodeId, NodeName } from "../../actors/ids.ts";
import { createMembership } from "../../actors/membership.ts";
import { ROUTING_DEFAULTS } from "../../src/cluster/routing-settings.ts";
import { hear, joinedNode, type MembershipSim } from "../support/membership.ts";

const b = "b.9" as NodeId;

describe("the limits of suspicion", () => {
  const peer = (sim: MembershipSim) => sim.state.view.peers[0]?.state;

  it("on links are settings: when one is quiet, and when it speaks for its node's death", () => {
    const sim = hear(joinedNode({ linkQuiet: 5_000, dead: 100, linkDead: 7_000 }), b);
    sim.tell({ type: "link-heard", node: b }).tell({ type: "connection", connected: false });
    expect(peer(sim.advance(4_900))).toBe("alive");
    expect(peer(sim.advance(500))).toBe("suspect");
    expect(peer(sim.advance(1_400))).toBe("suspect");
    expect(peer(sim.advance(500))).toBeUndefined();
  });

  it("on evidence are settings: how close together the two halves of the proof must be", () => {
    for (const [apart, state] of [
      [400, undefined],
      [600, "suspect"],
    ] as const) {
      const sim = hear(joinedNode({ proofWithin: 500 }), b).tell({ type: "link-refused", node: b });
      sim.advance(apart).tell({ type: "unanswered", node: b });
      expect(peer(sim)).toBe(state);
    }
  });

  it("on our own loop are settings: when it is late, for how long that counts, and when it stood still", () => {
    const changes = { lateAfter: 300, lateFor: 2_000, stalledAfter: 400 };
    const sim = hear(joinedNode(changes), b);
    const actor = createMembership({ ...ROUTING_DEFAULTS.membership, ...changes }, "a" as NodeName, 5, "", 1);
    const swept = (late: number) => actor.receive(sim.state, { type: "sweep" }, sim.state.sweepAt + late);
    for (const [late, stood] of [
      [350, false],
      [450, true],
    ] as const) {
      expect(swept(late)[1].some((effect) => effect.type === "stalled")).toBe(stood);
    }
    expect(swept(250)[0].lateUntil).toBe(Number.NEGATIVE_INFINITY);
    expect(swept(350)[0].lateUntil).toBe(sim.state.sweepAt + 350 + 2_000);
  });

  it("on isolation is a setting: how long most members' silence is taken for our own", () => {
    const names = ["b.9", "c.9", "d.9"] as NodeId[];
    const sim = joinedNode({ isolatedMost: 20_000 });
    for (const name of names) hear(sim, name);
    expect(sim.advance(20_000).state.view.peers).toHaveLength(3);
    expect(sim.advance(5_000).state.view.peers).toEqual([]);
  });
});
