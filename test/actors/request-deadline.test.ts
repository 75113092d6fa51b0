/** How a request ends that nobody accepted in time: with what its attempts proved. */
import { describe, expect, it } from "vitest";
import type { FailureCode } from "../../actors/failure.ts";
import type { Reported } from "../../actors/request-state.ts";
import { answer, far, lost, near, park, report, route, type Sim, start } from "./request-start.ts";

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
