/**
 * One request at the node where it came in: resolve, attempt, retry only on proof that nothing ran, park until the deadline.
 * One attempt at a time; attempt k+1 only after proof for attempt k, or after its loss when the request is idempotent, its
 * body still whole and nothing of an answer was delivered. Ends exactly once.
 */
import type { Actor, Millis } from "./actor.ts";
import { outcome } from "./request-attempt.ts";
import { deadlineFailure, unknownOutcome } from "./request-failure.ts";
import { answered, found, near, poll, scattered, silent } from "./request-resolve.ts";
import {
  end,
  fail,
  type Known,
  type RequestEffect,
  type RequestMessage,
  type RequestOut,
  type RequestSpec,
  type RequestState,
  type RequestStep,
  resolve,
} from "./request-state.ts";

export const request: Actor<RequestState, RequestMessage, RequestEffect> = {
  initial: { type: "new" },
  receive(state, message, now) {
    if (state.type === "over") return [state, []];
    if (message.type === "start") return start(state, message.spec, now);
    if (state.type === "new") return [state, []];
    switch (message.type) {
      case "near":
        return near(state, message.routes, message.current, now);
      case "answered":
        return answered(state, message.round, message.answer, message.routes, now);
      case "silent":
        return silent(state, message.round, false, now);
      case "no-home":
        return silent(state, message.round, true, now);
      case "scattered":
        return scattered(state, message.round, message.routes, now);
      case "found":
        return found(state, message.routes, now);
      case "view-changed":
        return state.type === "parked" ? resolve(state.known) : [state, []];
      case "not-parked":
        return state.type === "parked" ? fail(state, message.failure) : [state, []];
      case "outcome":
        return outcome(state, message.attempt, message.outcome, now);
      case "again":
        return poll(state, message.round);
      case "deadline":
        return deadline(state, now);
      case "stop":
        return fail(
          state,
          state.type === "attempting" ? unknownOutcome(state.known, message.failure) : message.failure,
        );
      case "cancel":
        return end(state, []);
    }
  },
};

function start(state: RequestState, spec: RequestSpec, now: Millis): RequestStep {
  if (state.type !== "new") return [state, []];
  const known: Known = {
    spec,
    deadline: now + spec.within,
    seed: spec.seed,
    round: 0,
    attempts: 0,
    polls: 0,
    excluded: [],
    unreachable: [],
    failure: null,
    lost: null,
    seen: null,
  };
  const [next, effects] = resolve(known);
  const timer: RequestOut = { type: "schedule", key: "deadline", at: known.deadline, message: { type: "deadline" } };
  return [next, [timer, ...effects]];
}

function deadline(state: Exclude<RequestState, { type: "new" | "over" }>, now: Millis): RequestStep {
  if (state.type === "attempting" && state.accepted) return [state, []];
  if (now < state.known.deadline) return [state, []];
  return fail(state, deadlineFailure(state.known, state.type === "attempting"));
}
