/** The sentences of actors/request.ts, for any order of what it may be told. */
import fc from "fast-check";
import { expect, it } from "vitest";
import type { AgentId, ConnectionId, NodeId } from "../../actors/ids.ts";
import { request } from "../../actors/request.ts";
import type { Reported, RequestEffect, RequestMessage } from "../../actors/request-state.ts";
import type { Route } from "../../actors/route.ts";
import { simulate } from "../support/simulate.ts";

const self = "a.1" as NodeId;
const gone = { code: "node-gone", reason: "gone" } as const;

const route = fc
  .record({
    node: fc.constantFrom("a.1", "b.1", "c.1"),
    connection: fc.integer({ min: 1, max: 3 }),
    draining: fc.boolean(),
  })
  .map(({ node, connection, draining }): Route => {
    return { node: node as NodeId, connection: connection as ConnectionId, draining, suspect: false, active: 0 };
  });
const routes = fc.array(route, { maxLength: 3 });
const reported = fc.oneof(
  fc.constantFrom<Reported>({ type: "accepted" }, { type: "delivered" }, { type: "done" }),
  fc.boolean().map((dial): Reported => ({ type: "refused", failure: gone, dial })),
  fc.boolean().map((replayable): Reported => ({ type: "lost", failure: gone, replayable })),
);
const answer = fc
  .record({ mature: fc.boolean(), missing: fc.constantFrom<NodeId[]>([], ["c.1" as NodeId]) })
  .map((changes) => ({ routes: [], seen: null, ...changes }));

type Told = (round: number, attempt: number) => RequestMessage;
const told: fc.Arbitrary<Told> = fc.oneof(
  fc.tuple(routes, fc.boolean()).map(
    ([found, current]): Told =>
      () => ({ type: "near", routes: found, current }),
  ),
  fc.tuple(routes, answer).map(
    ([found, a]): Told =>
      (round) => ({ type: "answered", round, answer: a, routes: found }),
  ),
  fc.constant<Told>((round) => ({ type: "silent", round })),
  fc.constant<Told>((round) => ({ type: "no-home", round })),
  routes.map(
    (found): Told =>
      (round) => ({ type: "scattered", round, routes: found }),
  ),
  routes.map(
    (found): Told =>
      () => ({ type: "found", routes: found }),
  ),
  fc.constant<Told>(() => ({ type: "view-changed" })),
  reported.map(
    (outcome): Told =>
      (_, attempt) => ({ type: "outcome", attempt, outcome }),
  ),
);
const script = fc.array(fc.tuple(fc.integer({ min: 0, max: 700 }), told), { maxLength: 80 });

const count = (effects: readonly RequestEffect[], type: RequestEffect["type"]) =>
  effects.filter((effect) => effect.type === type).length;

it("ends exactly once, fails at most once, and has one attempt open at a time", () => {
  fc.assert(
    fc.property(script, fc.boolean(), (steps, idempotent) => {
      const sim = simulate(request).tell({
        type: "start",
        spec: { agent: 7 as AgentId, self, idempotent, within: 10_000, offlineAfter: 150_000, seed: 3 },
      });
      let attempt = 0;
      let accepted = false;
      for (const [pause, tell] of steps) {
        sim.advance(pause);
        const { state } = sim;
        const round = "known" in state ? state.known.round : 0;
        sim.tell(tell(round, attempt));
        attempt = count(sim.effects, "attempt");
        expect(attempt - count(sim.effects, "attempt-over")).toBeLessThanOrEqual(1);
        if (sim.state.type === "attempting") accepted = sim.state.accepted;
      }
      sim.advance(20_000);
      if (sim.state.type === "attempting" && accepted)
        sim.tell({ type: "outcome", attempt, outcome: { type: "done" } });

      expect(count(sim.effects, "over")).toBe(1);
      expect(sim.effects.at(-1)?.type).toBe("over");
      expect(count(sim.effects, "fail")).toBeLessThanOrEqual(1);
      expect(count(sim.effects, "attempt")).toBe(count(sim.effects, "attempt-over"));
    }),
    { numRuns: 300 },
  );
});

const mayRepeat = (outcome: Reported, harmless: boolean) =>
  outcome.type === "refused" || (outcome.type === "lost" && outcome.replayable && harmless);

it("is attempted again only after proof, or after a loss that may be repeated", () => {
  fc.assert(
    fc.property(fc.array(reported, { minLength: 1, maxLength: 12 }), fc.boolean(), (outcomes, idempotent) => {
      // Another connection each time: one that refused is left out.
      const here = (n: number): Route => {
        return { node: self, connection: n as ConnectionId, draining: false, suspect: false, active: 0 };
      };
      const sim = simulate(request).tell({
        type: "start",
        spec: { agent: 7 as AgentId, self, idempotent, within: 60_000, offlineAfter: 150_000, seed: 3 },
      });
      let allowed = 1;
      let delivered = false;
      for (const [n, outcome] of outcomes.entries()) {
        for (let i = 0; i < 4; i++) sim.advance(600).tell({ type: "near", routes: [here(n + 1)], current: true });
        const attempt = count(sim.effects, "attempt");
        expect(attempt).toBeLessThanOrEqual(allowed);
        if (sim.state.type !== "attempting") return;
        delivered ||= outcome.type === "delivered";
        if (mayRepeat(outcome, idempotent && !delivered)) allowed++;
        if (outcome.type === "refused") delivered = false;
        sim.tell({ type: "outcome", attempt, outcome });
      }
      expect(count(sim.effects, "attempt")).toBeLessThanOrEqual(allowed);
    }),
    { numRuns: 300 },
  );
});
