/**
 * The memory that the links of one process share: what their streams hold, and what windows borrow beyond their floors. A
 * loan counts, for the process and for its agent, while its window is in use: one that holds no more than its floor for a
 * second sleeps and counts again when it does. At the hard limit a stream gives way (`relief.ts`).
 * Always: `held` and `lent` are the sums over the windows of all its links, sleepers left out of `lent`.
 */
import type { Millis } from "./actor.ts";
import type { Failure } from "./failure.ts";
import type { GroupKey } from "./turns.ts";

const MIB = 1024 * 1024;
/** How long a window must be of no use until its loan may sleep, and how often sleepers are looked for. */
const UNUSED: Millis = 1_000;

export type PoolLimits = {
  /** What may be lent at once: to all agents together, and to each. */
  readonly growth: number;
  readonly perAgent: number;
  /** Bytes held in all above which a stream is reset. */
  readonly hard: number;
};

export const POOL_LIMITS: PoolLimits = { growth: 64 * MIB, perAgent: 8 * MIB, hard: 256 * MIB };

/** What a loan is attached to. */
export type Borrower = {
  readonly pool: CreditPool;
  share: CreditShare | null;
  readonly size: number;
  readonly floor: number;
  readonly held: number;
  readonly touched: Millis;
  readonly agedSince: Millis;
  readonly oldPieces: number;
  readonly newPieces: number;
};

/** A link as the others see it that share its memory. */
export type PooledLink = {
  readonly streams: { values(): Iterable<{ readonly id: number; readonly window: Borrower }> };
  /** Resets the stream; its other end is told. */
  giveWay(id: number, reset: { readonly failure: Failure; readonly unprocessed: boolean }): void;
};

/** What one agent's streams have borrowed; it exists while they have. */
export type CreditShare = { readonly key: GroupKey; lent: number };

export type CreditPool = {
  readonly limits: PoolLimits;
  readonly links: Set<PooledLink>;
  readonly shares: Map<GroupKey, CreditShare>;
  lent: number;
  /** DATA that consumers have not taken, and what keeping it in small pieces costs. */
  held: number;
  searched: Millis;
  /** Streams that gave way so far. */
  relieved: number;
};

export const creditPool = (limits: Partial<PoolLimits> = {}): CreditPool => ({
  limits: { ...POOL_LIMITS, ...limits },
  links: new Set(),
  shares: new Map(),
  lent: 0,
  held: 0,
  searched: Number.NEGATIVE_INFINITY,
  relieved: 0,
});

/** What is left for `key` to borrow, once loans that sleep are put aside; less than nothing when they woke up. */
export function roomFor(pool: CreditPool, key: GroupKey, wish: number, now: Millis): number {
  const left = room(pool, key);
  if (left >= wish || now - pool.searched < UNUSED) return left;
  pool.searched = now;
  for (const { streams } of pool.links) for (const { window } of streams.values()) doze(window, now);
  return room(pool, key);
}

const room = ({ limits, lent, shares }: CreditPool, key: GroupKey): number =>
  Math.min(limits.growth - lent, limits.perAgent - (shares.get(key)?.lent ?? 0));

function doze(window: Borrower, now: Millis): void {
  if (!window.share || window.held > window.floor || now - window.touched < UNUSED) return;
  giveBack(window.pool, window.share, window.size - window.floor);
  window.share = null;
}

/** Counts `bytes` more as lent; what they are to be given back to. */
export function lend(pool: CreditPool, key: GroupKey, bytes: number): CreditShare {
  let share = pool.shares.get(key);
  if (!share) {
    share = { key, lent: 0 };
    pool.shares.set(key, share);
  }
  share.lent += bytes;
  pool.lent += bytes;
  return share;
}

export function giveBack(pool: CreditPool, share: CreditShare, bytes: number): void {
  share.lent -= bytes;
  pool.lent -= bytes;
  if (share.lent === 0) pool.shares.delete(share.key);
}
