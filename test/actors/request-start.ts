/** One request in virtual time: how it is started, told and read, and what homes and attempts answer it. */
import type { HomeAnswer } from "../../actors/home-index.ts";
import type { AgentId, ConnectionId, NodeId } from "../../actors/ids.ts";
import { request } from "../../actors/request.ts";
import type { Reported, RequestSpec } from "../../actors/request-state.ts";
import type { Route } from "../../actors/route.ts";
import { simulate } from "../support/simulate.ts";

export const self = "a.1" as NodeId;
export const far = "b.1" as NodeId;
export const route = (node: NodeId, connection: number, changes: Partial<Route> = {}): Route => ({
  node,
  connection: connection as ConnectionId,
  draining: false,
  suspect: false,
  active: 0,
  ...changes,
});
export const answer = (changes: Partial<HomeAnswer> = {}): HomeAnswer => ({
  routes: [],
  missing: [],
  mature: false,
  seen: null,
  ...changes,
});
export const gone = { code: "node-gone", reason: "the link broke" } as const;
export const refused: Reported = { type: "refused", failure: { code: "not-owner", reason: "not here" }, dial: false };
export const lost = { type: "lost", failure: gone, replayable: true } as const satisfies Reported;

export const start = (changes: Partial<RequestSpec> = {}) =>
  simulate(request).tell({
    type: "start",
    spec: { agent: 7 as AgentId, self, idempotent: false, within: 20_000, offlineAfter: 150_000, seed: 1, ...changes },
  });
export type Sim = ReturnType<typeof start>;
export const near = (sim: Sim, routes: readonly Route[] = [], current = false) =>
  sim.tell({ type: "near", routes, current });
export const report = (sim: Sim, attempt: number, outcome: Reported) => sim.tell({ type: "outcome", attempt, outcome });
export const tags = (sim: Sim) => sim.take().map((effect) => effect.type);

/** Looks near and at both homes, who know nothing for certain. */
export function park(sim: Sim, round = 1): Sim {
  near(sim).tell({ type: "answered", round, answer: answer(), routes: [] });
  return sim;
}
