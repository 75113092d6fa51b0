/**
 * The last resort for memory: while the links of a pool hold more than its hard limit, the stream that has held most for
 * longest is reset with `busy`, whichever link it is on. A reader that is slow but reads has held its bytes for short.
 */
import type { Millis } from "./actor.ts";
import { burden } from "./credit.ts";
import { failure } from "./failure.ts";
import type { Borrower, CreditPool, PooledLink } from "./pool.ts";

export type Heaviest = { readonly link: PooledLink; readonly id: number; readonly window: Borrower };

export function heaviest(pool: CreditPool, now: Millis): Heaviest | null {
  let found: Heaviest | null = null;
  let most = 0;
  for (const link of pool.links) {
    for (const { id, window } of link.streams.values()) {
      const weight = burden(window, now);
      if (weight <= most) continue;
      most = weight;
      found = { link, id, window };
    }
  }
  return found;
}

/** Returns once the pool is within its limit, or nothing is left that could give way. */
export function relieve(pool: CreditPool, now: Millis): void {
  while (pool.held > pool.limits.hard) {
    const next = heaviest(pool, now);
    if (!next) return;
    const { link, id, window } = next;
    const reason = failure(
      "busy",
      `this process holds ${megabytes(pool.held)}, all it may, for readers that do not keep up; this stream held ` +
        `${megabytes(window.held)} for ${Math.round((now - window.agedSince) / 1_000)} s: read faster`,
    );
    pool.relieved++;
    link.giveWay(id, { failure: reason, unprocessed: false });
  }
}

const megabytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
