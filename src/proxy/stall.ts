/**
 * An upload that waits for its reader. A caller that left its bytes unread behind it cannot be seen to have left, so the wait is
 * bounded: `stalled` is told, once, when nothing has moved for `within` to twice that.
 */
import type { Millis } from "../../actors/actor.ts";
import { type Failure, failure } from "../../actors/failure.ts";
import type { Clock } from "../runtime/clock.ts";

export type Stall = {
  readonly clock: Clock;
  readonly within: Millis;
  /** Grows with every byte that moves, either way; null: the upload does not wait any more. */
  readonly moved: () => number | null;
  readonly over: (stalled: boolean) => void;
};

/** Watches until the upload goes on or has stalled; `over` is told which. */
export function watchStall({ clock, within, moved, over }: Stall): Disposable {
  let before = moved();
  let timer: Disposable;
  const wait = () => {
    timer = clock.schedule(clock.now() + within, () => {
      const now = moved();
      if (now === null) over(false);
      else if (now === before) over(true);
      else {
        before = now;
        wait();
      }
    });
  };
  wait();
  return { [Symbol.dispose]: () => timer[Symbol.dispose]() };
}

export const stalledUpload = (agentId: number, within: Millis): Failure =>
  failure(
    "deadline",
    `Agent ${agentId} took nothing of what was sent and answered nothing for ${Math.round(within / 1000)} s: it may have ` +
      "executed it. Look at the pod or service that should read it",
  );
