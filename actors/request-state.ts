/** What one request knows in each of its phases, what it is told and what it asks for. */
import type { Millis, Schedule, Step } from "./actor.ts";
import type { Failure } from "./failure.ts";
import type { HomeAnswer } from "./home-index.ts";
import type { AgentId, ConnectionId, NodeId } from "./ids.ts";
import type { Route } from "./route.ts";

export type RequestSpec = {
  readonly agent: AgentId;
  readonly self: NodeId;
  readonly idempotent: boolean;
  /** How long it may wait to be accepted. */
  readonly within: Millis;
  /** Absent for less than this: it may be on its way back. */
  readonly offlineAfter: Millis;
  readonly seed: number;
};

/** What every phase knows. */
export type Known = {
  readonly spec: RequestSpec;
  readonly deadline: Millis;
  readonly seed: number;
  /** Counts resolutions, so that an answer to an earlier one is seen as such. */
  readonly round: number;
  readonly attempts: number;
  /** Times it was parked since its last attempt. */
  readonly polls: number;
  readonly excluded: readonly { readonly node: NodeId; readonly connection: ConnectionId }[];
  readonly unreachable: readonly { readonly node: NodeId; readonly until: Millis }[];
  /** Why the last attempt failed. */
  readonly failure: Failure | null;
  /** How an attempt was lost that may have run. */
  readonly lost: Failure | null;
  readonly seen: HomeAnswer["seen"];
};

export type RequestState =
  | { readonly type: "new" }
  | { readonly type: "near"; readonly known: Known }
  | {
      readonly type: "asking";
      readonly known: Known;
      /** Index of the home that was asked last. */
      readonly home: number;
      readonly routes: readonly Route[];
      readonly missing: readonly NodeId[];
      readonly answers: number;
      /** Every answer so far proves absence. */
      readonly absent: boolean;
    }
  | { readonly type: "scattered"; readonly known: Known; readonly routes: readonly Route[] }
  | { readonly type: "parked"; readonly known: Known }
  | { readonly type: "resting"; readonly known: Known }
  | {
      readonly type: "attempting";
      readonly known: Known;
      readonly route: Route;
      readonly accepted: boolean;
      readonly delivered: boolean;
    }
  | { readonly type: "over" };

export type RequestMessage =
  | { readonly type: "start"; readonly spec: RequestSpec }
  /** Own connections and cached routes. `current`: they are all there is, as a home said a moment ago. */
  | { readonly type: "near"; readonly routes: readonly Route[]; readonly current: boolean }
  | {
      readonly type: "answered";
      readonly round: number;
      readonly answer: HomeAnswer;
      readonly routes: readonly Route[];
    }
  | { readonly type: "silent"; readonly round: number }
  | { readonly type: "no-home"; readonly round: number }
  | { readonly type: "scattered"; readonly round: number; readonly routes: readonly Route[] }
  | { readonly type: "found"; readonly routes: readonly Route[] }
  | { readonly type: "view-changed" }
  | { readonly type: "not-parked"; readonly failure: Failure }
  | { readonly type: "outcome"; readonly attempt: number; readonly outcome: Reported }
  | { readonly type: "again"; readonly round: number }
  | { readonly type: "deadline" }
  /** This node stops. */
  | { readonly type: "stop"; readonly failure: Failure }
  | { readonly type: "cancel" };

export type RequestEffect =
  | { readonly type: "look-near" }
  /** Ask the `home`th home; the answer is `answered`, `silent` or `no-home`. */
  | { readonly type: "look-up"; readonly round: number; readonly home: number; readonly watch: Millis }
  /** Ask these nodes, or everybody, what they hold. */
  | { readonly type: "scatter"; readonly round: number; readonly nodes: readonly NodeId[] | "all" }
  | { readonly type: "park" }
  | {
      readonly type: "attempt";
      readonly number: number;
      readonly route: Route;
      readonly exclude: readonly ConnectionId[];
    }
  /** The attempt on this route is over, however it ended. */
  | { readonly type: "attempt-over"; readonly route: Route }
  | { readonly type: "forget"; readonly node: NodeId; readonly connection: ConnectionId | 0 }
  | { readonly type: "renew" }
  | { readonly type: "fail"; readonly failure: Failure }
  | { readonly type: "over" };

export type RequestOut = RequestEffect | Schedule<RequestMessage>;
export type RequestStep = Step<RequestState, RequestOut>;

export type Reported =
  | { readonly type: "accepted" }
  | { readonly type: "delivered" }
  | { readonly type: "done" }
  | { readonly type: "refused"; readonly failure: Failure; readonly dial: boolean }
  | { readonly type: "lost"; readonly failure: Failure; readonly replayable: boolean };

/** Starts from what is near; answers to earlier rounds are void from here on. */
export function resolve(known: Known): RequestStep {
  return [{ type: "near", known: { ...known, round: known.round + 1 } }, [{ type: "look-near" }]];
}

export function fail(state: RequestState, failure: Failure): RequestStep {
  return end(state, [{ type: "fail", failure }]);
}

export function end(state: RequestState, effects: readonly RequestOut[]): RequestStep {
  const attempt: RequestOut[] = state.type === "attempting" ? [{ type: "attempt-over", route: state.route }] : [];
  return [{ type: "over" }, [...attempt, ...effects, { type: "over" }]];
}
