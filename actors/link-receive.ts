/**
 * Frames that come in, one call each. A frame that the tables forbid, that exceeds its credit or names a stream never
 * opened closes the link with `protocol`; one for a stream that is over is dropped and counted.
 */
import type { Millis } from "./actor.ts";
import { drop, KIB, receiveBytes } from "./credit.ts";
import { failure } from "./failure.ts";
import {
  FLAG_END,
  FRAME,
  type FrameReset,
  ILLEGAL,
  LEGAL_FLAGS,
  MAX_DATA_BYTES,
  MAX_PAYLOAD,
  MAX_STREAM_ID,
  nextPhase,
  PHASE,
} from "./frame.ts";
import { abort, end, finish, type LinkState, seat, streamCount } from "./link.ts";
import { overControls, overCtl, overRate } from "./link-rate.ts";
import { relieve } from "./relief.ts";
import { DEAF, discard, newStream, SMALL_BYTES, type StreamState, waiting } from "./stream.ts";

/** Bytes came, whatever they are: the link lives, and they will be acknowledged. */
export function heard(link: LinkState, bytes: number, now: Millis): void {
  link.now = now;
  link.heard = now;
  link.silentSince = -1;
  link.acknowledge += bytes;
  link.received += bytes;
}

/** The other side broke the protocol. */
export function violate(link: LinkState, what: string): void {
  end(link, { why: failure("protocol", `the other side of the link broke the protocol: ${what}`), tell: true });
}

/** A frame came that no credit bounds. False when it was one too many, and the link is closed. */
export function affords(link: LinkState): boolean {
  if (!overControls(link)) return true;
  violate(link, `more than ${link.rules.controlsPerSecond} frames in a second that nothing called for`);
  return false;
}

/** Null when the header is legal, else what is wrong; asked before any payload is kept. */
export function faultOf(link: LinkState, type: number, flags: number, id: number, length: number): string | null {
  const most = MAX_PAYLOAD[type] ?? -1;
  if (most < 0) return `there is no frame of type ${type}`;
  if (length > most) return `a frame of type ${type} with ${length} bytes, more than ${most}`;
  if (flags & ~(LEGAL_FLAGS[type] ?? 0)) return `a frame of type ${type} with flags ${flags}`;
  if (id > MAX_STREAM_ID) return `stream id ${id}`;
  if (type === FRAME.ctl && length > link.rules.maxCtlBytes) return `${length} bytes of CTL on a link that takes none`;
  if (link.phase === "greeting" && type !== FRAME.hello && type !== FRAME.reset) {
    return `a frame of type ${type} before HELLO`;
  }
  return null;
}

/** A frame whose payload is bytes or nothing. DATA may come in pieces, as long as only the last has FLAG_END. */
export function receiveFrame(link: LinkState, type: number, flags: number, id: number, payload: Uint8Array): void {
  if (link.phase === "closed") return;
  if (id === 0) receiveLinkFrame(link, type, flags, payload);
  else if (type === FRAME.open) receiveOpen(link, flags, id, payload);
  else {
    const s = find(link, id);
    if (s) receiveStreamFrame(link, s, type, flags, payload);
  }
}

function receiveLinkFrame(link: LinkState, type: number, flags: number, payload: Uint8Array): void {
  if (!affords(link)) return;
  switch (type) {
    case FRAME.hello:
      if (link.phase === "greeting") link.port.hello(flags, payload);
      else violate(link, "HELLO on a link that is up");
      return;
    case FRAME.ctl:
      if (overCtl(link, payload.length)) link.dropped++;
      else link.port.ctl(payload);
      return;
    case FRAME.ready:
      link.port.ready();
      return;
    case FRAME.drain:
      link.port.drain();
      return;
    default:
      violate(link, `a frame of type ${type} on stream 0`);
  }
}

/** The stream of this id; none when it is over. */
export function find(link: LinkState, id: number): StreamState | null {
  const s = link.streams.get(id);
  if (s) return s;
  const own = (id & 1) === (link.rules.firstStream & 1);
  if (own ? id < link.nextId : id <= link.theirLast) {
    link.dropped++;
    affords(link);
  } else violate(link, `a frame of stream ${id}, which was never opened`);
  return null;
}

function receiveOpen(link: LinkState, flags: number, id: number, payload: Uint8Array): void {
  if ((id & 1) === (link.rules.firstStream & 1)) {
    violate(link, `OPEN of ${id}, an id that is ours to give`);
    return;
  }
  if (id <= link.theirLast) {
    violate(link, `OPEN of ${id} after ${link.theirLast}: ids must rise`);
    return;
  }
  link.theirLast = id;
  if (link.closeSent) {
    link.dropped++; // above the last id of our CLOSE: the other side has its proof
    return;
  }
  const tooMany = streamCount(link) >= link.rules.maxStreams;
  if (overRate(link) || tooMany) {
    const what = tooMany ? `${link.rules.maxStreams} streams at once` : `${link.rules.opensPerSecond} streams a second`;
    pushReset(link, id, { failure: failure("busy", `the link carries at most ${what}; try again`), unprocessed: true });
    return;
  }
  admit(link, flags, id, payload);
}

function admit(link: LinkState, flags: number, id: number, payload: Uint8Array): void {
  const { peerWindow: credit, pool, now } = link;
  const s = newStream({
    id,
    own: false,
    group: 0,
    events: DEAF,
    open: null,
    credit,
    window: link.rules.streamWindow,
    pool,
    now,
  });
  link.streams.set(id, s);
  const taken = link.port.open(payload, s);
  if (!("closed" in taken)) {
    pushReset(link, id, { failure: taken, unprocessed: true });
    finish(link, s);
    return;
  }
  s.events = taken;
  if (s.over) taken.closed();
  else if (flags & FLAG_END) receiveEnd(link, s, FRAME.end);
}

const MAX_RESETS_WAITING = 10_000;

function pushReset(link: LinkState, id: number, reset: FrameReset): void {
  link.resets.push({ id, reset });
  if (link.resets.length > MAX_RESETS_WAITING) violate(link, "it opens streams and does not read our refusals");
}

function receiveStreamFrame(link: LinkState, s: StreamState, type: number, flags: number, payload: Uint8Array): void {
  if (!advance(link, s, type)) return;
  switch (type) {
    case FRAME.data:
      receiveData(link, s, payload);
      break;
    case FRAME.head:
      accepted(s);
      if (!s.over) s.events.head(payload);
      break;
    case FRAME.trailer:
      accepted(s);
      if (!s.over && !s.stopped) s.events.trailer(payload);
      break;
    case FRAME.stop:
      if (!affords(link)) return;
      accepted(s);
      if (!s.over && !s.refused) receiveStop(link, s);
      break;
    case FRAME.end:
      accepted(s);
      ended(link, s);
      break;
    default:
      accepted(s);
  }
  if (flags & FLAG_END && type !== FRAME.end && !s.over && link.phase !== "closed") receiveEnd(link, s, FRAME.end);
}

/** Moves the other side's direction on, by the table. After our STOP it may end wherever it is. */
function advance(link: LinkState, s: StreamState, type: number): boolean {
  let phase = nextPhase(!s.own, type, s.receivePhase);
  if (phase === ILLEGAL && type === FRAME.end && s.stopped && s.receivePhase !== PHASE.ended) phase = PHASE.ended;
  if (phase === ILLEGAL) {
    violate(link, `a frame of type ${type} in phase ${s.receivePhase} of stream ${s.id}`);
    return false;
  }
  s.receivePhase = phase;
  return true;
}

export function accepted(s: StreamState): void {
  if (s.accepted || !s.own) return;
  s.accepted = true;
  s.events.accepted();
}

/** A consumer that holds more than this leaves things lying: small ones must not keep the large chunk they came in. */
const LEFT_LYING = 16 * KIB;

function receiveData(link: LinkState, s: StreamState, payload: Uint8Array): void {
  if (payload.length === 0) {
    affords(link);
    return;
  }
  if (payload.length > MAX_DATA_BYTES || !receiveBytes(s.window, payload.length, link.now)) {
    violate(link, `more DATA on stream ${s.id} than it had credit for`);
    return;
  }
  if (s.stopped) drop(s.window, payload.length, link.now);
  else s.events.data(payload.length <= SMALL_BYTES && s.window.held > LEFT_LYING ? new Uint8Array(payload) : payload);
  if (link.pool.held > link.pool.limits.hard) relieve(link.pool, link.now);
}

function receiveEnd(link: LinkState, s: StreamState, type: number): void {
  if (advance(link, s, type)) ended(link, s);
}

function ended(link: LinkState, s: StreamState): void {
  if (s.over) return;
  s.events.end();
  if (s.ended) finish(link, s);
}

/** The other side wants no more: what waits is dropped and our direction ends. */
function receiveStop(link: LinkState, s: StreamState): void {
  link.queuedBytes -= waiting(s) - (s.head?.length ?? 0);
  discard(s);
  s.refused = true;
  s.ending = true;
  s.sendPhase = PHASE.ended;
  seat(link, s);
  s.events.stopped();
}

/** RESET of a stream, or on stream 0 of the whole link. */
export function receiveReset(link: LinkState, id: number, reset: FrameReset): void {
  if (link.phase === "closed") return;
  if (id === 0) {
    end(link, { why: reset.failure, tell: false, unprocessed: reset.unprocessed });
    return;
  }
  const s = find(link, id);
  overRate(link);
  if (!s) return;
  // Once it was accepted a claim of the opposite proves nothing.
  abort(link, s, { failure: reset.failure, unprocessed: reset.unprocessed && s.own && !s.accepted });
}
