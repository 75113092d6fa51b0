/**
 * Flow control in bytes. A stream's receiver owns a window: what the sender may still send, what is held here and what
 * waits to be granted always add up to it. The floor is the stream's own; growth is lent from a pool and given back.
 * The link's window bounds what is on its way and not yet acknowledged, by what it does to the round trip of a PING.
 */
import type { Millis } from "./actor.ts";

export const KIB = 1024;
export const MIB = KIB * KIB;
export const STREAM_FLOOR = 64 * KIB;
export const STREAM_CEILING = 4 * MIB;
/** What one link lends to fast streams together. A node may share one pool among its links instead. */
export const POOL_BYTES = 16 * MIB;
const SLOW_WINDOW: Millis = 1000;

/** Bytes lent above the floors; `lent` never exceeds `limit`. */
export type CreditPool = { lent: number; readonly limit: number };
export const creditPool = (limit: number = POOL_BYTES): CreditPool => ({ lent: 0, limit });

export type ReceiveWindow = {
  size: number;
  readonly floor: number;
  /** What the other side may still send. */
  allowed: number;
  /** Given to the handler, not yet consumed. */
  held: number;
  /** Consumed and not yet granted again. */
  due: number;
  /** When the running window's worth of consumption began, and how much of it is done. */
  since: Millis;
  taken: number;
};

export const receiveWindow = (size: number, now: Millis): ReceiveWindow => ({
  size,
  floor: size,
  allowed: size,
  held: 0,
  due: 0,
  since: now,
  taken: 0,
});

/** DATA came. False when the other side sent more than it may. */
export function receiveBytes(window: ReceiveWindow, bytes: number): boolean {
  window.allowed -= bytes;
  window.held += bytes;
  return window.allowed >= 0;
}

/** The consumer took bytes. True when enough is due for a CREDIT. */
export function consumeBytes(
  window: ReceiveWindow,
  bytes: number,
  pool: CreditPool,
  roundTrip: Millis,
  now: Millis,
): boolean {
  const taken = Math.min(bytes, window.held);
  window.held -= taken;
  window.due += taken;
  window.taken += taken;
  if (window.taken >= window.size) resize(window, pool, roundTrip, now);
  return window.due > 0 && window.due * 4 >= window.size;
}

/** A window used up within two round trips holds its stream back: it doubles. One that takes a second goes back. */
function resize(window: ReceiveWindow, pool: CreditPool, roundTrip: Millis, now: Millis): void {
  const elapsed = now - window.since;
  window.since = now;
  window.taken = 0;
  if (elapsed < 2 * Math.max(roundTrip, 1)) {
    const more = Math.max(0, Math.min(window.size, STREAM_CEILING - window.size, pool.limit - pool.lent));
    pool.lent += more;
    window.size += more;
    window.due += more;
  } else if (elapsed > SLOW_WINDOW) {
    const less = Math.min(window.size - window.floor, window.due);
    pool.lent -= less;
    window.size -= less;
    window.due -= less;
  }
}

/** Takes what is due, to be sent as a CREDIT. */
export function grant(window: ReceiveWindow): number {
  const bytes = window.due;
  window.due = 0;
  window.allowed += bytes;
  return bytes;
}

/** The stream is over: what was lent goes back. */
export function giveBack(window: ReceiveWindow, pool: CreditPool): void {
  pool.lent -= window.size - window.floor;
  window.size = window.floor;
}

const LINK_WINDOW_START = 512 * KIB;
const LINK_WINDOW_FLOOR = 64 * KIB;
const LINK_WINDOW_CEILING = 8 * MIB;
/** How much a PING may be delayed by what we have on its way. */
const TOLERATED_DELAY: Millis = 30;
/** Below this much on its way a PING measures the path, not us. */
export const IDLE_BYTES = 16 * KIB;

export type LinkWindow = {
  size: number;
  unacknowledged: number;
  /** Round trip of a PING on an idle link; -1 before the first. */
  idleRoundTrip: Millis;
  /** The last measured round trip; 0 before the first. */
  roundTrip: Millis;
};

export const linkWindow = (): LinkWindow => ({
  size: LINK_WINDOW_START,
  unacknowledged: 0,
  idleRoundTrip: -1,
  roundTrip: 0,
});

/** A PONG came for a PING that was sent when the link was `full`, or with `before` bytes on their way. */
export function measured(window: LinkWindow, roundTrip: Millis, full: boolean, before: number): void {
  window.roundTrip = roundTrip;
  const idle = window.idleRoundTrip;
  if (idle < 0 || roundTrip < idle) window.idleRoundTrip = roundTrip;
  else if (before < IDLE_BYTES) window.idleRoundTrip = idle + (roundTrip - idle) / 4;
  if (!full) return;
  if (roundTrip <= window.idleRoundTrip + TOLERATED_DELAY) {
    window.size = Math.min(window.size * 2, LINK_WINDOW_CEILING);
  } else if (window.size > LINK_WINDOW_FLOOR) {
    window.size = Math.max(window.size / 2, LINK_WINDOW_FLOOR);
  } else {
    window.idleRoundTrip = roundTrip; // as little as we ever send and still slow: the path became longer
  }
}
