/** Durations as operators write them ("3600s", "5m", "1h30m", "250ms", or a number of seconds), in milliseconds. */
import type { Millis } from "../../actors/actor.ts";

const UNITS: Readonly<Record<string, Millis>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
const SHAPE = /^(?:\d+(?:\.\d+)?(?:ms|s|m|h))+$/;
const PART = /(\d+(?:\.\d+)?)(ms|s|m|h)/g;
const PLAIN = /^\d+(?:\.\d+)?$/;

/** Longest that is accepted: timers of the platform end at 2³¹ ms. */
export const MAX_DURATION: Millis = 2 ** 31 - 1;

export const DURATION_EXPECTED = "a duration such as 3600s, 5m, 1h30m, 250ms, or a number of seconds, at most 24 days";

/** null where it is none. */
export function parseDuration(value: unknown): Millis | null {
  const millis = typeof value === "number" ? value * 1000 : typeof value === "string" ? sum(value.trim()) : Number.NaN;
  return millis >= 0 && millis <= MAX_DURATION ? Math.round(millis) : null;
}

function sum(text: string): number {
  if (PLAIN.test(text)) return Number(text) * 1000;
  if (!SHAPE.test(text)) return Number.NaN;
  let millis = 0;
  for (const [, amount, unit] of text.matchAll(PART)) millis += Number(amount) * (UNITS[unit ?? ""] ?? Number.NaN);
  return millis;
}

/** As an operator would write it; the inverse of `parseDuration`. */
export const formatDuration = (millis: Millis): string => (millis % 1000 === 0 ? `${millis / 1000}s` : `${millis}ms`);
