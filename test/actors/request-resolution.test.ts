/** Where a request looks for its agent, and how long it waits for one that is absent. */
import { describe, expect, it } from "vitest";
import { answer, far, near, park, route, self, start, tags } from "./request-start.ts";

describe("resolution", () => {
  it("attempts a connection of its own node before any other", () => {
    const sim = near(start(), [route(far, 1), route(self, 2)]);
    expect(sim.take().at(-1)).toMatchObject({ type: "attempt", number: 1, route: { node: self, connection: 2 } });
  });

  it("prefers the less busy of two", () => {
    const sim = near(start(), [route(far, 1, { active: 9 }), route(far, 2, { active: 3 })]);
    expect(sim.take().at(-1)).toMatchObject({ type: "attempt", route: { connection: 2 } });
  });

  it("asks a home rather than use a draining or suspect route, and uses it when there is nothing else", () => {
    const poor = route(far, 1, { draining: true });
    const sim = near(start(), [poor]);
    expect(sim.take().at(-1)).toMatchObject({ type: "look-up", home: 0 });
    sim.tell({ type: "answered", round: 1, answer: answer(), routes: [poor] });
    expect(sim.take().at(-1)).toMatchObject({ type: "attempt", route: { connection: 1 } });
  });

  it("asks the second home when the first is silent, then everybody", () => {
    const sim = near(start()).tell({ type: "silent", round: 1 });
    expect(sim.take().at(-1)).toMatchObject({ type: "look-up", home: 1 });
    sim.tell({ type: "silent", round: 1 }).tell({ type: "no-home", round: 1 });
    expect(sim.take().at(-1)).toEqual({ type: "scatter", round: 1, nodes: "all" });
    sim.tell({ type: "scattered", round: 1, routes: [route(far, 3)] });
    expect(sim.take().at(-1)).toMatchObject({ type: "attempt", route: { connection: 3 } });
  });

  it("asks the members that a home misses before it parks", () => {
    const sim = near(start()).tell({ type: "answered", round: 1, answer: answer({ missing: [far] }), routes: [] });
    sim.tell({ type: "no-home", round: 1 });
    expect(sim.take().at(-1)).toEqual({ type: "scatter", round: 1, nodes: [far] });
    expect(tags(sim.tell({ type: "scattered", round: 1, routes: [] }))).toEqual(["park"]);
  });

  it("polls while parked, within 300 ms at first and at most a second later on", () => {
    const sim = park(start());
    sim.take();
    expect(tags(sim.advance(600))).toContain("look-near");
    for (let round = 2; round < 8; round++) {
      park(sim, round).take();
      expect(tags(sim.advance(1_000))).toContain("look-near");
    }
  });

  it("goes the moment it hears where the agent is", () => {
    const sim = park(start()).tell({ type: "found", routes: [route(far, 4)] });
    expect(sim.take().at(-1)).toMatchObject({ type: "attempt", route: { connection: 4 } });
  });

  it("ignores the answer to an earlier round", () => {
    const sim = park(start());
    sim.tell({ type: "view-changed" });
    near(sim).take();
    sim.tell({ type: "answered", round: 1, answer: answer(), routes: [route(far, 4)] });
    expect(sim.take()).toEqual([]);
  });
});

describe("an absent agent", () => {
  it("fails at once only when every home that answers is sure", () => {
    const sure = answer({ mature: true });
    const sim = near(start()).tell({ type: "answered", round: 1, answer: sure, routes: [] });
    expect(sim.take().at(-1)).toMatchObject({ type: "look-up", home: 1 });
    sim.tell({ type: "silent", round: 1 }).tell({ type: "no-home", round: 1 });
    expect(sim.take()).toMatchObject([
      { type: "look-up" },
      { type: "fail", failure: { code: "agent-offline" } },
      { type: "over" },
    ]);
  });

  it("is waited for when it was seen a moment ago or a home is young", () => {
    const seen = { ago: 149_000, wall: 0, node: far };
    for (const doubtful of [answer({ mature: true, seen }), answer({ mature: false })]) {
      const sim = near(start()).tell({ type: "answered", round: 1, answer: doubtful, routes: [] });
      expect(sim.take().at(-1)).toEqual({ type: "park" });
    }
  });

  it("ends agent-offline at the deadline, with when and where it was last seen", () => {
    const seen = { ago: 1_000, wall: 14 * 3_600_000 + 2 * 60_000, node: far };
    const sim = near(start()).tell({ type: "answered", round: 1, answer: answer({ seen }), routes: [] });
    sim.take();
    sim.tell({ type: "deadline" });
    expect(sim.take()).toEqual([]);
    for (let at = 0; at < 20_000; at += 100) {
      sim.advance(100);
      if (sim.take().some((effect) => effect.type === "fail")) expect(sim.now()).toBe(20_000);
    }
    expect(sim.state.type).toBe("over");
  });

  it("ends with what refused to let it wait", () => {
    const busy = { code: "busy", reason: "64 wait" } as const;
    const sim = park(start()).tell({ type: "not-parked", failure: busy });
    expect(sim.take().at(-2)).toEqual({ type: "fail", failure: busy });
  });
});
