/** One request at its ingress: where it looks, when it tries again, and how it ends. */
import { describe, expect, it } from "vitest";
import type { FailureCode } from "../../actors/failure.ts";
import type { HomeAnswer } from "../../actors/home-index.ts";
import type { AgentId, ConnectionId, NodeId } from "../../actors/ids.ts";
import { request } from "../../actors/request.ts";
import type { Reported, RequestSpec } from "../../actors/request-state.ts";
import type { Route } from "../../actors/route.ts";
import { simulate } from "../support/simulate.ts";

const self = "a.1" as NodeId;
const far = "b.1" as NodeId;
const route = (node: NodeId, connection: number, changes: Partial<Route> = {}): Route => ({
  node,
  connection: connection as ConnectionId,
  draining: false,
  suspect: false,
  active: 0,
  ...changes,
});
const answer = (changes: Partial<HomeAnswer> = {}): HomeAnswer => ({
  routes: [],
  missing: [],
  mature: false,
  seen: null,
  ...changes,
});
const gone = { code: "node-gone", reason: "the link broke" } as const;
const refused: Reported = { type: "refused", failure: { code: "not-owner", reason: "not here" }, dial: false };
const lost: Reported = { type: "lost", failure: gone, replayable: true };

const start = (changes: Partial<RequestSpec> = {}) =>
  simulate(request).tell({
    type: "start",
    spec: { agent: 7 as AgentId, self, idempotent: false, within: 20_000, offlineAfter: 150_000, seed: 1, ...changes },
  });
type Sim = ReturnType<typeof start>;
const near = (sim: Sim, routes: readonly Route[] = [], current = false) => sim.tell({ type: "near", routes, current });
const report = (sim: Sim, attempt: number, outcome: Reported) => sim.tell({ type: "outcome", attempt, outcome });
const tags = (sim: Sim) => sim.take().map((effect) => effect.type);

/** Looks near and at both homes, who know nothing for certain. */
function park(sim: Sim, round = 1): Sim {
  near(sim).tell({ type: "answered", round, answer: answer(), routes: [] });
  return sim;
}

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

describe("attempts", () => {
  it("tries a second time at once after a refusal, then after a rest", () => {
    const sim = near(start(), [route(far, 1)]);
    report(sim, 1, refused);
    expect(tags(sim)).toEqual(["look-near", "attempt", "attempt-over", "forget", "look-near"]);
    near(sim, [route(far, 1), route(far, 2)]);
    expect(sim.take()).toMatchObject([{ type: "attempt", number: 2, route: { connection: 2 }, exclude: [1] }]);
    report(sim, 2, refused);
    expect(tags(sim)).toEqual(["attempt-over", "forget"]);
    expect(tags(sim.advance(24))).toEqual([]);
    expect(tags(sim.advance(26))).toEqual(["look-near"]);
  });

  it("leaves out a node it could not dial for a second", () => {
    const sim = near(start(), [route(far, 1)]);
    report(sim, 1, { type: "refused", failure: gone, dial: true });
    expect(sim.take().at(-2)).toEqual({ type: "forget", node: far, connection: 0 });
    near(sim, [route(far, 2)]);
    expect(sim.take().at(-1)).toMatchObject({ type: "look-up" });
  });

  it("never repeats a request that is not idempotent once it may have run", () => {
    for (const before of [[], [{ type: "accepted" } as const]]) {
      const sim = near(start(), [route(far, 1)]);
      for (const outcome of before) report(sim, 1, outcome);
      report(sim, 1, lost);
      expect(sim.take().at(-2)).toMatchObject({ type: "fail", failure: { code: "outcome-unknown" } });
    }
  });

  it("repeats an idempotent one while its body is whole and nothing was delivered", () => {
    const sim = near(start({ idempotent: true }), [route(far, 1)]);
    report(sim, 1, { type: "accepted" });
    report(sim, 1, lost);
    expect(tags(sim).at(-1)).toBe("look-near");
    near(sim, [route(far, 2)]);
    report(sim, 2, { type: "delivered" });
    report(sim, 2, lost);
    expect(sim.take().at(-2)).toMatchObject({ type: "fail", failure: { code: "outcome-unknown" } });
  });

  it("does not repeat what it can no longer send whole", () => {
    const sim = near(start({ idempotent: true }), [route(far, 1)]);
    report(sim, 1, { ...lost, replayable: false });
    expect(sim.take().at(-2)).toMatchObject({ type: "fail", failure: { code: "outcome-unknown" } });
  });

  it("runs on past its deadline once it was accepted, and ends with its stream", () => {
    const sim = near(start({ within: 100 }), [route(far, 1)]);
    report(sim, 1, { type: "accepted" });
    sim.advance(10_000);
    expect(sim.state.type).toBe("attempting");
    report(sim, 1, { type: "done" });
    expect(tags(sim).slice(-2)).toEqual(["attempt-over", "over"]);
  });

  it("ends with deadline when an attempt was never accepted", () => {
    const sim = near(start({ within: 100 }), [route(far, 1)]).advance(100);
    expect(sim.take().slice(-3)).toMatchObject([
      { type: "attempt-over" },
      { type: "fail", failure: { code: "deadline" } },
      { type: "over" },
    ]);
  });

  it("ignores what is said of another attempt, and everything once it is over", () => {
    const sim = near(start(), [route(far, 1)]);
    sim.take();
    report(sim, 9, lost);
    expect(sim.take()).toEqual([]);
    sim.tell({ type: "cancel" });
    expect(tags(sim)).toEqual(["attempt-over", "over"]);
    report(sim, 1, lost).advance(30_000);
    expect(sim.take()).toEqual([]);
  });

  it("says on a stopping node that what runs may have run, and that the rest did not", () => {
    const stop = { code: "draining", reason: "stopping" } as const;
    const running = near(start(), [route(far, 1)]).tell({ type: "stop", failure: stop });
    expect(running.take().at(-2)).toMatchObject({ type: "fail", failure: { code: "outcome-unknown" } });
    const waiting = park(start()).tell({ type: "stop", failure: stop });
    expect(waiting.take().at(-2)).toEqual({ type: "fail", failure: stop });
  });
});

describe("a request whose time to be accepted has passed", () => {
  const refusing = (code: FailureCode, dial = false): Reported => ({
    type: "refused",
    failure: { code, reason: `it was ${code}` },
    dial,
  });
  const phase = (sim: Sim): string => sim.state.type;
  /** Every attempt ends so, until the deadline. */
  const until = (sim: Sim, outcome: (attempt: number) => Reported) => {
    near(sim, [route(far, 1)]);
    for (let step = 0, attempt = 0; step < 1_000 && phase(sim) !== "over"; step++) {
      const { state } = sim;
      if (state.type === "attempting") report(sim, ++attempt, outcome(attempt));
      else if (state.type !== "near") sim.advance(10);
      else near(sim).tell({ type: "answered", round: state.known.round, answer: answer(), routes: [route(far, 1)] });
    }
    expect(sim.now()).toBe(2_000);
    return failureOf(sim);
  };
  const failureOf = (sim: Sim) => sim.take().find((effect) => effect.type === "fail")?.failure;
  const brief = { within: 2_000 } as const;

  it("ends with what refused it last, for a refusal is proof that nothing ran", () => {
    for (const code of ["busy", "not-owner", "draining", "cluster-unavailable"] as const) {
      expect(until(start(brief), () => refusing(code))).toMatchObject({
        code,
        reason: expect.stringMatching(new RegExp(`within 2 s in \\d+ attempts, so nothing ran; .*it was ${code}$`)),
      });
    }
    expect(until(start(brief), () => refusing("node-gone", true))?.code).toBe("node-gone");
    expect(until(start(brief), (n) => refusing(n < 3 ? "node-gone" : "busy"))?.code).toBe("busy");
  });

  it("ends outcome-unknown when one attempt was lost, whatever refused it afterwards", () => {
    const failure = until(start({ ...brief, idempotent: true }), (n) => (n === 1 ? lost : refusing("busy")));
    expect(failure).toMatchObject({ code: "outcome-unknown", reason: expect.stringContaining("the link broke") });
  });

  it("ends with deadline while an attempt is under way, whatever refused it before", () => {
    const sim = near(start(brief), [route(far, 1)]);
    report(sim, 1, refusing("busy"));
    near(sim, [route(far, 2)]).advance(2_000);
    expect(failureOf(sim)?.code).toBe("deadline");
  });

  it("ends agent-offline when nobody has the agent any more, with what refused it before", () => {
    const sim = near(start(brief), [route(far, 1)]);
    report(sim, 1, refusing("not-owner"));
    park(sim, 2);
    sim.tell({ type: "again", round: 1 });
    expect(sim.state.type).toBe("parked");
    while (phase(sim) !== "over") {
      sim.advance(100);
      if (sim.state.type === "near") park(sim, sim.state.known.round);
    }
    expect(failureOf(sim)).toMatchObject({
      code: "agent-offline",
      reason: expect.stringContaining("it was not-owner"),
    });
  });

  it("ends with the refusal that comes after the deadline", () => {
    const sim = near(start({ within: 100, idempotent: true }), [route(far, 1)]);
    report(sim, 1, { type: "accepted" });
    sim.advance(1_000);
    report(sim, 1, refusing("busy"));
    expect(failureOf(sim)?.code).toBe("busy");
  });
});
