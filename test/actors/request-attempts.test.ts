/** When a request tries again, when it must not, and how its attempts end. */
import { describe, expect, it } from "vitest";
import { far, gone, lost, near, park, refused, report, route, start, tags } from "./request-start.ts";

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
