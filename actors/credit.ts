/**
 * Flow control in bytes. A stream's receiver owns a window: what the sender may still send, what is held here and what
 * waits to be granted always add up to it. The floor is the stream's own; growth is lent from a pool and given back. A
 * window grows only while its reader keeps up and needs it, so one that stalls later does not find it larger than that.
 * The link's window bounds what is on its way and not yet acknowledged, by what it does to the round trip of a PING.
 */
import type { Millis } from "./actor.ts";
import { type Borrower, type CreditPool, type CreditShare, giveBack, lend, roomFor } from "./pool.ts";
import type { GroupKey } from "./turns.ts";

export const KIB = 1024;
export const MIB = KIB * KIB;
export const STREAM_FLOOR = 64 * KIB;
export const STREAM_CEILING = 4 * MIB;
const SLOW_WINDOW: Millis = 1000;
/** Credit goes round no faster than the turns of two event loops, however short the path. */
const LEAST_ROUND_TRIP: Millis = 1;
/** Keeping a piece of DATA costs about this much beside its bytes; counted for pieces smaller than it. */
const PIECE_BYTES = 256;

export type ReceiveWindow = {
  readonly pool: CreditPool;
  /** Whom a loan counts against, and where it is counted; null at the floor and while it sleeps. */
  owner: GroupKey;
  share: CreditShare | null;
  size: number;
  readonly floor: number;
  /** What the other side may still send. */
  allowed: number;
  /** Given to the handler, not yet consumed. */
  held: number;
  /** Consumed and not yet granted again. */
  due: number;
  /** By how much the window is to shrink as bytes become due: credit that was granted cannot be taken back. */
  surplus: number;
  /** When the running window's worth of consumption began, how much of it is done, and the least that was held in it. */
  since: Millis;
  taken: number;
  least: number;
  /** When it was last granted anything. */
  touched: Millis;
  /** All that is held came after `agedSince`; once `aging` more bytes are taken, all that is left came later still. */
  aging: number;
  agedSince: Millis;
  /** What small pieces cost that came before the last such moment, and since. */
  oldPieces: number;
  newPieces: number;
};

export const receiveWindow = (size: number, now: Millis, pool: CreditPool): ReceiveWindow => ({
  pool,
  owner: 0,
  share: null,
  size,
  floor: size,
  allowed: size,
  held: 0,
  due: 0,
  surplus: 0,
  since: now,
  taken: 0,
  least: 0,
  touched: now,
  aging: 0,
  agedSince: now,
  oldPieces: 0,
  newPieces: 0,
});

/** DATA came. False when the other side sent more than it may. */
export function receiveBytes(window: ReceiveWindow, bytes: number, now: Millis): boolean {
  const { pool, held: before } = window;
  const held = before + bytes;
  window.allowed -= bytes;
  window.held = held;
  pool.held += bytes;
  if (held > window.floor && window.share === null) wakeUp(window);
  if (before === 0) {
    window.aging = bytes;
    window.agedSince = now;
  }
  if (bytes < PIECE_BYTES) {
    window.newPieces += PIECE_BYTES;
    pool.held += PIECE_BYTES;
  }
  return window.allowed >= 0;
}

/** A loan that slept is in use again, whether the pool has room or not. */
function wakeUp(window: ReceiveWindow): void {
  if (window.size > window.floor) window.share = lend(window.pool, window.owner, window.size - window.floor);
}

/** The consumer took bytes. True when enough is due for a CREDIT. */
export function consumeBytes(window: ReceiveWindow, bytes: number, now: Millis): boolean {
  const taken = drop(window, bytes, now);
  window.due += taken;
  window.taken += taken;
  if (window.held < window.least) window.least = window.held;
  return window.due > 0 && window.due * 4 >= window.size;
}

/** Bytes are held no more, and nothing is owed for them. */
export function drop(window: ReceiveWindow, bytes: number, now: Millis): number {
  const taken = Math.min(bytes, window.held);
  window.held -= taken;
  window.pool.held -= taken;
  window.aging -= taken;
  if (window.aging <= 0) age(window, now);
  return taken;
}

function age(window: ReceiveWindow, now: Millis): void {
  window.aging = window.held;
  window.agedSince = now;
  if (window.oldPieces + window.newPieces === 0) return;
  window.pool.held -= window.oldPieces;
  window.oldPieces = window.newPieces;
  window.newPieces = 0;
  if (window.held === 0) forgetPieces(window);
}

function forgetPieces(window: ReceiveWindow): void {
  window.pool.held -= window.oldPieces + window.newPieces;
  window.oldPieces = 0;
  window.newPieces = 0;
}

/**
 * A window that is used up within two round trips holds its stream back: it doubles, if its consumer keeps up. What a
 * consumer left lying all the while was of no use: the window shrinks by it. One that takes a second falls to its floor.
 */
function resize(window: ReceiveWindow, owner: GroupKey, roundTrip: Millis, now: Millis): void {
  const elapsed = now - window.since;
  const { least, size, floor } = window;
  window.since = now;
  window.taken = 0;
  window.least = window.held;
  if (elapsed > SLOW_WINDOW) window.surplus = size - floor;
  else if (least * 4 > size) window.surplus = Math.min(least, size - floor);
  else if (elapsed < 3 * Math.max(roundTrip, LEAST_ROUND_TRIP)) grow(window, owner, now);
}

/** As far as its loan is not above what it leaves to the others: late ones find some, and early ones give some back. */
function grow(window: ReceiveWindow, owner: GroupKey, now: Millis): void {
  const { pool, size, floor } = window;
  window.surplus = 0;
  if (window.share === null) {
    window.owner = owner;
    wakeUp(window);
  }
  const loan = size - floor;
  const left = roomFor(pool, window.owner, loan + size, now);
  const more = Math.min(size, STREAM_CEILING - size, Math.floor((left - loan) / 2));
  if (more > 0) {
    window.share = lend(pool, window.owner, more);
    window.size += more;
    window.due += more;
  } else window.surplus = Math.min(loan, Math.floor((loan - left) / 2), size / 2);
}

function shrink(window: ReceiveWindow): void {
  const less = Math.min(window.surplus, window.due);
  window.surplus -= less;
  window.size -= less;
  window.due -= less;
  if (!window.share) return;
  giveBack(window.pool, window.share, less);
  if (window.size === window.floor) window.share = null;
}

/** Takes what is due, to be sent as a CREDIT; 0 when the window shrinks by it. `owner`: whom a loan counts against. */
export function grant(window: ReceiveWindow, owner: GroupKey, roundTrip: Millis, now: Millis): number {
  if (window.taken >= window.size) resize(window, owner, roundTrip, now);
  if (window.surplus > 0) shrink(window);
  const bytes = window.due;
  window.due = 0;
  window.allowed += bytes;
  window.touched = now;
  return bytes;
}

/** The stream is over: what was lent goes back, and nothing is held any more. */
export function release(window: ReceiveWindow, now: Millis): void {
  drop(window, window.held, now);
  forgetPieces(window);
  if (window.share) giveBack(window.pool, window.share, window.size - window.floor);
  window.share = null;
  window.size = window.floor;
}

/** What a stream weighs when one must give way: what it holds, by how long it has held it (at most twice as long as told). */
export const burden = ({ held, oldPieces, newPieces, agedSince }: Borrower, now: Millis): number =>
  held === 0 ? 0 : (held + oldPieces + newPieces) * (now - agedSince + 1);

const LINK_WINDOW_START = 512 * KIB;
const LINK_WINDOW_FLOOR = 64 * KIB;
const LINK_WINDOW_CEILING = 8 * MIB;
/** How much a PING may be delayed by what we have on its way: so long, or so much of the path's own round trip. */
const TOLERATED_DELAY: Millis = 3;
const TOLERATED_SHARE = 1 / 4;
/** Below this much on its way, both ways, a PING measures the path, not us. */
export const IDLE_BYTES = 16 * KIB;

export type LinkWindow = {
  size: number;
  unacknowledged: number;
  /** Round trip of a PING on an idle link; -1 before the first. */
  idleRoundTrip: Millis;
  /** The last measured round trip; 0 before the first. */
  roundTrip: Millis;
  /** Of the last PING, when it was slow and not the second in a row; else 0. */
  slow: Millis;
  /** For which the window was halved last; 0 when a PING was fast since. */
  halvedFor: Millis;
};

export const linkWindow = (): LinkWindow => ({
  size: LINK_WINDOW_START,
  unacknowledged: 0,
  idleRoundTrip: -1,
  roundTrip: 0,
  slow: 0,
  halvedFor: 0,
});

/** A PONG came for a PING that was sent when the link was `full`; `quiet`: nothing else was on its way. */
export function measured(window: LinkWindow, roundTrip: Millis, full: boolean, quiet: boolean): void {
  window.roundTrip = roundTrip;
  const idle = window.idleRoundTrip;
  if (idle < 0 || roundTrip < idle) window.idleRoundTrip = roundTrip;
  else if (quiet) window.idleRoundTrip = idle + (roundTrip - idle) / 4;
  if (full) adapt(window, roundTrip);
}

const tolerated = (idle: Millis): Millis => idle + Math.max(TOLERATED_DELAY, idle * TOLERATED_SHARE);

/** How long credit takes to go round: as measured, less what of it is our own queue. */
export const creditRoundTrip = ({ roundTrip, idleRoundTrip }: LinkWindow): Millis =>
  Math.min(roundTrip, tolerated(idleRoundTrip));

/**
 * Doubles while what is on its way does not slow a PING, halves where it slows two in a row (one may have met a busy
 * process). Half as much on its way and PINGs hardly faster for it: then their delay is not ours, and counts as idle.
 */
function adapt(window: LinkWindow, roundTrip: Millis): void {
  const idle = window.idleRoundTrip;
  const before = window.slow;
  const isSlow = roundTrip > tolerated(idle);
  window.slow = isSlow && before === 0 ? roundTrip : 0;
  if (!isSlow) {
    window.size = Math.min(window.size * 2, LINK_WINDOW_CEILING);
    window.halvedFor = 0;
  } else if (before > 0) halve(window, Math.min(before, roundTrip));
}

function halve(window: LinkWindow, roundTrip: Millis): void {
  const { idleRoundTrip: idle, halvedFor } = window;
  if (halvedFor > 0) window.idleRoundTrip = Math.min(roundTrip, Math.max(idle, 2 * roundTrip - halvedFor));
  if (window.size === LINK_WINDOW_FLOOR) window.idleRoundTrip = roundTrip; // as little as we ever send and still slow
  window.size = Math.max(window.size / 2, LINK_WINDOW_FLOOR);
  window.halvedFor = roundTrip;
}
