/** One attempt of a request and what becomes of it. */
import type { Millis } from "./actor.ts";
import { backoff } from "./backoff.ts";
import type { Failure } from "./failure.ts";
import { fraction, nextSeed } from "./hash.ts";
import type { NodeId } from "./ids.ts";
import { deadlineFailure, unknownOutcome } from "./request-failure.ts";
import {
  end,
  fail,
  type Known,
  type Reported,
  type RequestOut,
  type RequestState,
  type RequestStep,
  resolve,
} from "./request-state.ts";
import { isSameRoute, type Route } from "./route.ts";

type Attempting = Extract<RequestState, { type: "attempting" }>;

const AT_ONCE = 2;
const REST_FIRST = 50;
const REST_MOST = 1_000;
const UNREACHABLE_FOR = 1_000;
const EXCLUDED_MOST = 64;

export const isExcluded = (known: Known, route: Route): boolean => known.excluded.some((e) => isSameRoute(e, route));

export const isUnreachable = (known: Known, node: NodeId, now: Millis): boolean =>
  known.unreachable.some((u) => u.node === node && u.until > now);

/** Only an attempt on a route that had refused before lifts the exclusions. */
export function attempt(known: Known, route: Route): RequestStep {
  const excluded = isExcluded(known, route) ? [] : known.excluded;
  const number = known.attempts + 1;
  const exclude = excluded.filter((e) => e.node === route.node).map((e) => e.connection);
  const next: Known = { ...known, attempts: number, excluded, seed: nextSeed(known.seed), polls: 0 };
  return [
    { type: "attempting", known: next, route, accepted: false, delivered: false },
    [{ type: "attempt", number, route, exclude }],
  ];
}

export function outcome(state: RequestState, number: number, reported: Reported, now: Millis): RequestStep {
  if (state.type !== "attempting" || state.known.attempts !== number) return [state, []];
  switch (reported.type) {
    case "accepted":
      return state.accepted ? [state, []] : [{ ...state, accepted: true }, [{ type: "renew" }]];
    case "delivered":
      return [{ ...state, delivered: true }, []];
    case "done":
      return end(state, []);
    case "refused":
      return refused(state, reported.failure, reported.dial, now);
    case "lost":
      return lost(state, reported.failure, reported.replayable, now);
  }
}

function refused(state: Attempting, failure: Failure, dial: boolean, now: Millis): RequestStep {
  return tryAgain(state, state.known, failure, dial, now);
}

function lost(state: Attempting, failure: Failure, replayable: boolean, now: Millis): RequestStep {
  const { known } = state;
  const mayRepeat = known.spec.idempotent && replayable && !state.delivered;
  if (!mayRepeat) return fail(state, unknownOutcome(known, failure));
  return tryAgain(state, { ...known, lost: failure }, failure, false, now);
}

function tryAgain(state: Attempting, told: Known, failure: Failure, dial: boolean, now: Millis): RequestStep {
  const { route } = state;
  const known = without(told, route, failure, dial, now);
  if (now >= known.deadline) return fail(state, deadlineFailure(known, false));
  const before: RequestOut[] = [
    { type: "attempt-over", route },
    { type: "forget", node: route.node, connection: dial ? 0 : route.connection },
  ];
  // An accepted attempt outlived the timer of the deadline.
  if (state.accepted)
    before.push({ type: "schedule", key: "deadline", at: known.deadline, message: { type: "deadline" } });
  if (known.attempts < AT_ONCE) {
    const [next, effects] = resolve(known);
    return [next, [...before, ...effects]];
  }
  const wait = backoff(known.attempts - AT_ONCE, REST_FIRST, REST_MOST, fraction(known.seed));
  const { round } = known;
  return [
    { type: "resting", known },
    [...before, { type: "schedule", key: "again", at: now + wait, message: { type: "again", round } }],
  ];
}

function without(known: Known, route: Route, failure: Failure, dial: boolean, now: Millis): Known {
  const seed = nextSeed(known.seed);
  if (dial) {
    const others = known.unreachable.filter((u) => u.node !== route.node && u.until > now);
    return { ...known, seed, failure, unreachable: [...others, { node: route.node, until: now + UNREACHABLE_FOR }] };
  }
  const excluded = [...known.excluded, { node: route.node, connection: route.connection }].slice(-EXCLUDED_MOST);
  return { ...known, seed, failure, excluded };
}
