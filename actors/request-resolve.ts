/** How a request finds its agent: what is near, then its homes in order, then the nodes they miss, then waiting. */
import type { Millis } from "./actor.ts";
import { backoff } from "./backoff.ts";
import { fraction, nextSeed } from "./hash.ts";
import type { HomeAnswer } from "./home-index.ts";
import { attempt, isExcluded, isUnreachable } from "./request-attempt.ts";
import { offline } from "./request-failure.ts";
import { fail, type Known, type RequestOut, type RequestState, type RequestStep, resolve } from "./request-state.ts";
import { choose, isPoor, type Route } from "./route.ts";

const POLL_FIRST = 600;
const POLL_MOST = 1_000;

type Asking = Extract<RequestState, { type: "asking" }>;

const isGood = (known: Known, now: Millis) => (route: Route) =>
  !isPoor(route) && !isExcluded(known, route) && !isUnreachable(known, route.node, now);

/** Better none than a poor one while others may exist; then poor ones, then whatever is not unreachable. */
function chooseLast(known: Known, routes: readonly Route[], now: Millis): Route | null {
  const { self } = known.spec;
  return (
    choose(routes, self, isGood(known, now), known.seed) ??
    choose(routes, self, (r) => !isExcluded(known, r) && !isUnreachable(known, r.node, now), known.seed) ??
    choose(routes, self, (r) => !isUnreachable(known, r.node, now), known.seed) ??
    choose(routes, self, () => true, known.seed)
  );
}

export function near(state: RequestState, routes: readonly Route[], current: boolean, now: Millis): RequestStep {
  if (state.type !== "near") return [state, []];
  const { known } = state;
  const chosen =
    choose(routes, known.spec.self, isGood(known, now), known.seed) ??
    (current ? choose(routes, known.spec.self, (r) => !isExcluded(known, r), known.seed) : null);
  if (chosen) return attempt(known, chosen);
  const asking: Asking = { type: "asking", known, home: 0, routes, missing: [], answers: 0, absent: true };
  return [asking, [lookUp(known, 0, now)]];
}

const lookUp = (known: Known, home: number, now: Millis): RequestOut => ({
  type: "look-up",
  round: known.round,
  home,
  watch: known.deadline - now,
});

export function answered(
  state: RequestState,
  round: number,
  answer: HomeAnswer,
  routes: readonly Route[],
  now: Millis,
): RequestStep {
  if (state.type !== "asking" || state.known.round !== round) return [state, []];
  const { known } = state;
  const chosen = choose(routes, known.spec.self, isGood(known, now), known.seed);
  if (chosen) return attempt(known, chosen);
  const all = [...state.routes, ...routes];
  const long = answer.seen === null || answer.seen.ago >= known.spec.offlineAfter;
  // A route that we cannot use, over a node that we do not know yet, is no absence.
  const absent = state.absent && answer.mature && long && all.length === 0 && answer.routes.length === 0;
  const seen = newer(known.seen, answer.seen);
  const next: Asking = {
    ...state,
    known: { ...known, seen },
    routes: all,
    missing: [...new Set([...state.missing, ...answer.missing])],
    answers: state.answers + 1,
    absent,
  };
  // A complete answer that does not prove absence is as good as a second one.
  if (answer.missing.length === 0 && !absent) return exhausted(next, now);
  return askNext(next, now);
}

const newer = (a: HomeAnswer["seen"], b: HomeAnswer["seen"]) => (a && (!b || a.ago < b.ago) ? a : b);

function askNext(state: Asking, now: Millis): RequestStep {
  const home = state.home + 1;
  return [{ ...state, home }, [lookUp(state.known, home, now)]];
}

/** A home that did not answer; `last` when there is no such home. */
export function silent(state: RequestState, round: number, last: boolean, now: Millis): RequestStep {
  if (state.type !== "asking" || state.known.round !== round) return [state, []];
  return last ? exhausted(state, now) : askNext(state, now);
}

/** No home has more to say. */
function exhausted(state: Asking, now: Millis): RequestStep {
  const { known } = state;
  if (state.answers > 0 && state.absent) return fail(state, offline(known));
  if (state.missing.length === 0 && state.answers > 0) return settle(known, state.routes, now);
  const nodes = state.answers === 0 ? "all" : state.missing;
  return [{ type: "scattered", known, routes: state.routes }, [{ type: "scatter", round: known.round, nodes }]];
}

export function scattered(state: RequestState, round: number, routes: readonly Route[], now: Millis): RequestStep {
  if (state.type !== "scattered" || state.known.round !== round) return [state, []];
  return settle(state.known, [...state.routes, ...routes], now);
}

function settle(known: Known, routes: readonly Route[], now: Millis): RequestStep {
  const chosen = chooseLast(known, routes, now);
  return chosen ? attempt(known, chosen) : park(known, now);
}

export function park(known: Known, now: Millis): RequestStep {
  const seed = nextSeed(known.seed);
  const at = now + backoff(known.polls, POLL_FIRST, POLL_MOST, fraction(seed));
  const round = known.round;
  return [
    { type: "parked", known: { ...known, seed, polls: known.polls + 1 } },
    [{ type: "park" }, { type: "schedule", key: "again", at, message: { type: "again", round } }],
  ];
}

/** The time to try again has come, for one that is parked or resting. */
export function poll(state: RequestState, round: number): RequestStep {
  if ((state.type !== "parked" && state.type !== "resting") || state.known.round !== round) return [state, []];
  return resolve(state.known);
}

/** Somebody says where the agent is. */
export function found(state: RequestState, routes: readonly Route[], now: Millis): RequestStep {
  if (state.type !== "parked" && state.type !== "asking" && state.type !== "scattered") return [state, []];
  const chosen = choose(routes, state.known.spec.self, isGood(state.known, now), state.known.seed);
  return chosen ? attempt(state.known, chosen) : [state, []];
}
