/** How long to wait before trying again: doubling, bounded, and never in step with others. */
import type { Millis } from "./actor.ts";

/** Between half and all of `first` × 2^`round`, at most `most`; `chance` in [0, 1) is the dice. */
export function backoff(round: number, first: Millis, most: Millis, chance: number): Millis {
  const full = Math.min(most, first * 2 ** Math.min(round, 30));
  return full / 2 + (full / 2) * chance;
}
