/**
 * One stream at one end of a link: what waits to be sent, how far each direction has come, and its window.
 * What waits is state, not a queue of frames: OPEN or HEAD, then DATA, then TRAILER, then END, in that order always.
 * The record is changed in place by `link.ts`, `link-receive.ts` and `link-pack.ts` only.
 */
import type { Millis } from "./actor.ts";
import type { Place } from "./bag.ts";
import { type ReceiveWindow, receiveWindow } from "./credit.ts";
import { type FrameReset, PHASE } from "./frame.ts";
import type { CreditPool } from "./pool.ts";
import type { GroupKey, Seat } from "./turns.ts";

/** What the user of a stream is told; nothing after `closed`. */
export interface StreamEvents {
  accepted(): void;
  head(payload: Uint8Array): void;
  data(bytes: Uint8Array): void;
  trailer(payload: Uint8Array): void;
  end(): void;
  stopped(): void;
  reset(reset: FrameReset): void;
  sent(bytes: number): void;
  closed(): void;
}

export type StreamState = Seat<StreamState> & {
  /** 0 until the OPEN of a stream of ours left for the carrier; ids are given out in that order. */
  id: number;
  /** We opened it. */
  readonly own: boolean;
  /** Its place among those whose OPEN did not leave yet. */
  unopened: Place | null;
  group: GroupKey;
  events: StreamEvents;
  over: boolean;
  /** The executing end took it, as far as we know. */
  accepted: boolean;

  sendPhase: number;
  /** OPEN of a stream of ours, HEAD of another; null when it left or is not there yet. */
  head: Uint8Array | null;
  chunks: Uint8Array[];
  /** First chunk not yet sent whole, and how much of it was. */
  chunk: number;
  offset: number;
  /** Where small pieces that have to wait are gathered, and how much of it is; the last chunk is a view of it, or it is full. */
  gather: Uint8Array;
  gathered: number;
  /** DATA bytes waiting. */
  queued: number;
  trailer: Uint8Array | null;
  ending: boolean;
  /** Our END left. */
  ended: boolean;
  /** The other side wants no more of us. */
  refused: boolean;
  /** DATA bytes the other side lets us send. */
  credit: number;
  /** DATA bytes that left and of which the user was not told yet. */
  left: number;
  /** DATA bytes that ever left. */
  total: number;
  /** Bytes of its running turn. */
  turn: number;

  receivePhase: number;
  readonly window: ReceiveWindow;
  /** We want no more of the other side. */
  stopped: boolean;

  /** Which control frames are pending: state, so that there is never more than one of each. */
  acceptDue: boolean;
  stopDue: boolean;
  creditDue: boolean;
  inControl: boolean;
};

/** Hears nothing: the stream's user is not known yet, or left. */
export const DEAF: StreamEvents = {
  accepted() {},
  head() {},
  data() {},
  trailer() {},
  end() {},
  stopped() {},
  reset() {},
  sent() {},
  closed() {},
};

type StreamStart = {
  readonly id: number;
  readonly own: boolean;
  readonly group: GroupKey;
  readonly events: StreamEvents;
  readonly open: Uint8Array | null;
  readonly credit: number;
  readonly window: number;
  readonly pool: CreditPool;
  readonly now: Millis;
};

export const newStream = (start: StreamStart): StreamState => ({
  before: null,
  after: null,
  bench: null,
  id: start.id,
  own: start.own,
  unopened: null,
  group: start.group,
  events: start.events,
  over: false,
  accepted: false,
  sendPhase: start.own ? PHASE.body : PHASE.silent,
  head: start.open,
  chunks: [],
  chunk: 0,
  offset: 0,
  gather: EMPTY,
  gathered: 0,
  queued: 0,
  trailer: null,
  ending: false,
  ended: false,
  refused: false,
  credit: start.credit,
  left: 0,
  total: 0,
  turn: 0,
  receivePhase: start.own ? PHASE.silent : PHASE.body,
  window: receiveWindow(start.window, start.now, start.pool),
  stopped: false,
  acceptDue: false,
  stopDue: false,
  creditDue: false,
  inControl: false,
});

/** Has a frame that may leave now. */
export const canSend = (s: StreamState): boolean =>
  s.head !== null || (s.queued > 0 ? s.credit > 0 : s.trailer !== null || (s.ending && !s.ended));

/** Bytes that wait here because of this stream. */
export const waiting = (s: StreamState): number => (s.head?.length ?? 0) + s.queued + (s.trailer?.length ?? 0);

/** Is END all that is left to send, so that it can be a flag on the frame being written? */
export const endsNow = (s: StreamState): boolean => s.ending && s.head === null && s.queued === 0 && s.trailer === null;

const GATHER_BYTES = 16 * 1024;
/** Pieces up to this size are copied where they wait: a view keeps all of the chunk that it came in. */
export const SMALL_BYTES = 4 * 1024;

/** Adds a chunk to what waits. */
export function append(s: StreamState, bytes: Uint8Array): void {
  if (s.queued === 0 || bytes.length > SMALL_BYTES) {
    s.gathered = GATHER_BYTES;
    s.chunks.push(bytes);
  } else gather(s, bytes);
  s.queued += bytes.length;
}

/** Bytes that were cut off and are on their way are never written to again. */
function gather(s: StreamState, bytes: Uint8Array): void {
  if (s.gathered + bytes.length > GATHER_BYTES) {
    s.gather = new Uint8Array(GATHER_BYTES);
    s.gathered = 0;
    s.chunks.push(EMPTY);
  }
  s.gather.set(bytes, s.gathered);
  s.gathered += bytes.length;
  s.chunks[s.chunks.length - 1] = s.gather.subarray(0, s.gathered);
}

/** Cuts the next at most `most` bytes off what waits: a view, never a copy. */
export function cut(s: StreamState, most: number): Uint8Array {
  const chunk = s.chunks[s.chunk] ?? EMPTY;
  const size = Math.min(most, chunk.length - s.offset);
  const whole = size === chunk.length;
  const piece = whole ? chunk : chunk.subarray(s.offset, s.offset + size);
  s.offset += size;
  s.queued -= size;
  if (s.offset === chunk.length) dropChunk(s);
  return piece;
}

const COMPACT_AT = 64;

function dropChunk(s: StreamState): void {
  s.chunks[s.chunk] = EMPTY;
  s.chunk++;
  s.offset = 0;
  if (s.chunk === s.chunks.length) {
    s.chunks.length = 0;
    s.chunk = 0;
  } else if (s.chunk >= COMPACT_AT && s.chunk * 2 > s.chunks.length) {
    s.chunks.splice(0, s.chunk);
    s.chunk = 0;
  }
}

/** Forgets the DATA and TRAILER that wait. */
export function discard(s: StreamState): void {
  s.chunks.length = 0;
  s.chunk = 0;
  s.offset = 0;
  s.queued = 0;
  s.gather = EMPTY;
  s.trailer = null;
}

export const EMPTY = new Uint8Array(0);
