/** Waits for conditions of real processes. Every wait has a deadline and says at its end what it waited for. */
import { setTimeout as sleep } from "node:timers/promises";

export class WaitedTooLong extends Error {
  override readonly name = "WaitedTooLong";
}

/** Polls until `look` gives something other than undefined, null or false; the last error it threw becomes the cause. */
export async function until<Value>(
  what: string,
  look: () => Promise<Value | undefined | null | false> | Value | undefined | null | false,
  { within = 15_000, every = 50 }: { readonly within?: number; readonly every?: number } = {},
): Promise<Value> {
  const deadline = performance.now() + within;
  let cause: unknown;
  do {
    try {
      const found = await look();
      if (found !== undefined && found !== null && found !== false) return found;
      cause = undefined;
    } catch (error) {
      cause = error;
    }
    await sleep(every);
  } while (performance.now() < deadline);
  throw new WaitedTooLong(`waited ${within} ms for ${what}${cause ? `: ${String(cause)}` : ""}`, { cause });
}

/** The promise's value, or an error naming `what` after `within`. */
export async function inTime<Value>(what: string, within: number, promise: Promise<Value>): Promise<Value> {
  const cancelled = new AbortController();
  const late = sleep(within, null, { signal: cancelled.signal }).then(
    () => {
      throw new WaitedTooLong(`${what} took longer than ${within} ms`);
    },
    () => new Promise<never>(() => {}),
  );
  try {
    return await Promise.race([promise, late]);
  } finally {
    cancelled.abort();
  }
}
