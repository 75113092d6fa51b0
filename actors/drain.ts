/**
 * What a node lets go of when it drains, and when. Agents are told to connect elsewhere one after the other over a short
 * span; after the grace of its listeners watches are ended one after the other, for their clients watch again elsewhere;
 * then other requests. Interactive streams stay until the drain's own deadline, which is not decided here.
 */
import type { Actor, Millis, Step } from "./actor.ts";

export type DrainSettings = {
  /** Over at most so long all agents are told. */
  readonly spread: Millis;
  /** Until then new connections come in, and no stream is ended. */
  readonly grace: Millis;
  readonly watchesWithin: Millis;
  readonly requestsWithin: Millis;
  readonly timeout: Millis;
};

/** Since when, and how many were done. */
type Progress = { readonly began: Millis; readonly done: number };

export type DrainState = {
  /** Agents that are being told; null: this node keeps what it has. */
  readonly moving: Progress | null;
  /** Watches that are being ended; null: streams stay. */
  readonly ending: Progress | null;
};

export type DrainMessage =
  /** `ends`: streams, too. */
  | { readonly type: "begin"; readonly ends: boolean }
  | { readonly type: "stay" }
  /** What there is now: agents that were not told, and streams that run. */
  | { readonly type: "look"; readonly agents: number; readonly watches: number; readonly requests: number };

export type DrainEffect =
  | { readonly type: "move"; readonly count: number }
  | { readonly type: "end"; readonly what: "watches" | "requests"; readonly count: number };

type DrainStep = Step<DrainState, DrainEffect>;

/** A few agents go at once; from there on none sooner than so long after the one before, while the span lasts. */
const APART: Millis = 5;
const STAYING: DrainState = { moving: null, ending: null };

export function createDrain(settings: DrainSettings): Actor<DrainState, DrainMessage, DrainEffect> {
  return {
    initial: STAYING,
    receive(state, message, now) {
      switch (message.type) {
        case "begin": {
          const fresh = { began: now, done: 0 };
          return [{ moving: state.moving ?? fresh, ending: message.ends ? (state.ending ?? fresh) : null }, []];
        }
        case "stay":
          return [STAYING, []];
        case "look":
          return look(state, message, settings, now);
      }
    },
  };
}

function look(
  { moving, ending }: DrainState,
  { agents, watches, requests }: Extract<DrainMessage, { type: "look" }>,
  settings: DrainSettings,
  now: Millis,
): DrainStep {
  const effects: DrainEffect[] = [];
  const move = moving
    ? due(moving, agents, moving.began, Math.min(settings.spread, (moving.done + agents) * APART), now)
    : 0;
  if (move > 0) effects.push({ type: "move", count: move });
  const { grace } = settings;
  const until = ending ? watchesUntil(settings) : 0;
  const watch = ending ? due(ending, watches, ending.began + grace, until - grace, now) : 0;
  if (watch > 0) effects.push({ type: "end", what: "watches", count: watch });
  if (ending && requests > 0 && now >= ending.began + requestsAfter(settings)) {
    effects.push({ type: "end", what: "requests", count: requests });
  }
  return [{ moving: further(moving, move), ending: further(ending, watch) }, effects];
}

/** After the drain began; both before its end, so that watches go first and interactive streams last. */
const watchesUntil = ({ grace, watchesWithin, timeout }: DrainSettings): Millis =>
  Math.max(Math.min(grace, timeout), Math.min(watchesWithin, timeout / 2));
const requestsAfter = (settings: DrainSettings): Millis =>
  Math.max(watchesUntil(settings), Math.min(settings.requestsWithin, (settings.timeout * 3) / 4));

/** How many of those that are left go now, for all to have gone evenly `over` after `from`. */
function due({ done }: Progress, left: number, from: Millis, over: Millis, now: Millis): number {
  if (left === 0 || now < from) return 0;
  const share = over > 0 ? Math.min(1, (now - from) / over) : 1;
  return Math.min(left, Math.max(0, Math.floor((done + left - 1) * share) + 1 - done));
}

const further = (progress: Progress | null, by: number): Progress | null =>
  progress && by > 0 ? { ...progress, done: progress.done + by } : progress;
