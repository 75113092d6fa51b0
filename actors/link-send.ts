/**
 * What the user of a link and of its streams may wish. Nothing here throws or writes: a wish becomes state that
 * `link-pack.ts` turns into frames when the carrier has room. Once a stream is over every wish for it does nothing.
 */
import { consumeBytes, MIB } from "./credit.ts";
import { type Failure, failure } from "./failure.ts";
import { FRAME, type FrameReset, ILLEGAL, MAX_STREAM_ID, nextPhase, PHASE } from "./frame.ts";
import { abort, control, finish, type LinkState, seat, streamCount } from "./link.ts";
import { append, newStream, type StreamEvents, type StreamState } from "./stream.ts";
import { type GroupKey, leave } from "./turns.ts";

const ALMOST = 2 ** 16;

export function openStream(link: LinkState, payload: Uint8Array, events: StreamEvents, group: GroupKey): StreamState {
  const { now, pool, peerWindow: credit } = link;
  const window = link.rules.streamWindow;
  const stream = newStream({ id: 0, own: true, group, events, open: payload, credit, window, pool, now });
  const refusal = whyNot(link);
  if (refusal) {
    stream.head = null;
    stream.refused = true;
    stream.sendPhase = PHASE.ended;
    link.refused.push({ stream, failure: refusal });
    return stream;
  }
  stream.unopened = link.unopened.add(stream);
  link.queuedBytes += payload.length;
  if (link.exhausted === "no" && link.nextId + 2 * link.unopened.size > MAX_STREAM_ID - 2 * ALMOST) {
    link.exhausted = "due";
  }
  if (link.phase === "up") seat(link, stream);
  return stream;
}

function whyNot(link: LinkState): Failure | null {
  if (link.phase === "closed") return failure("node-gone", "the link is gone; nothing was sent");
  if (link.phase === "closing") return failure("draining", "the link takes no new streams; nothing was sent");
  if (streamCount(link) >= link.rules.maxStreams) {
    return failure("busy", `the link carries ${link.rules.maxStreams} streams, which is all it may; try again later`);
  }
  if (link.nextId + 2 * link.unopened.size > MAX_STREAM_ID) {
    return failure("draining", "the link has used all its stream ids and is being replaced; nothing was sent");
  }
  return null;
}

/** Advances our direction by what the user wants to send; an illegal wish is a bug here and resets the stream. */
function may(link: LinkState, s: StreamState, type: number): boolean {
  if (s.over || s.refused || s.sendPhase === PHASE.ended) return false;
  const phase = nextPhase(s.own, type, s.sendPhase);
  if (phase === ILLEGAL) {
    const why = failure("internal", "frames of a stream were sent in an order that the protocol forbids");
    resetStream(link, s, { failure: why, unprocessed: false }, true);
    return false;
  }
  s.sendPhase = phase;
  return true;
}

export function acceptStream(link: LinkState, s: StreamState): void {
  if (s.over || s.own || s.sendPhase !== PHASE.silent) return;
  s.sendPhase = PHASE.accepted;
  s.acceptDue = true;
  control(link, s);
}

export function sendHead(link: LinkState, s: StreamState, payload: Uint8Array): void {
  if (!may(link, s, FRAME.head)) return;
  s.head = payload;
  s.acceptDue = false; // HEAD says it
  link.queuedBytes += payload.length;
  seat(link, s);
}

export function sendData(link: LinkState, s: StreamState, bytes: Uint8Array): void {
  if (bytes.length === 0 || !may(link, s, FRAME.data)) return;
  append(s, bytes);
  link.queuedBytes += bytes.length;
  seat(link, s);
}

export function sendTrailer(link: LinkState, s: StreamState, payload: Uint8Array): void {
  if (!may(link, s, FRAME.trailer)) return;
  s.trailer = payload;
  link.queuedBytes += payload.length;
  seat(link, s);
}

export function sendEnd(link: LinkState, s: StreamState): void {
  if (!may(link, s, FRAME.end)) return;
  s.ending = true;
  seat(link, s);
}

/** We want no more from the other side: what still comes is dropped, and no credit is owed for it. */
export function stopStream(link: LinkState, s: StreamState): void {
  if (s.over || s.stopped) return;
  s.stopped = true;
  if (s.receivePhase === PHASE.ended) return;
  s.stopDue = true;
  s.creditDue = false;
  control(link, s);
}

/** Ends both directions now. `tell` the handler too when it did not ask for it. */
export function resetStream(link: LinkState, s: StreamState, reset: FrameReset, tell = false): void {
  if (s.over) return;
  if (s.id > 0 && link.phase !== "closed") link.resets.push({ id: s.id, reset });
  if (tell) abort(link, s, reset);
  else finish(link, s);
}

/** The consumer took `bytes` of what its handler was given. */
export function consumed(link: LinkState, s: StreamState, bytes: number): void {
  if (s.over || !(bytes > 0)) return;
  const due = consumeBytes(s.window, bytes, link.now);
  if (!due || s.creditDue || s.stopped || s.receivePhase === PHASE.ended) return;
  s.creditDue = true;
  control(link, s);
}

const MAX_CTL_WAITING = 4 * MIB;

/** Messages of the routing protocol, which may be lost: above 4 MiB they are. */
export function sendCtl(link: LinkState, payload: Uint8Array): void {
  if (link.phase === "closed" || link.ctlBytes + payload.length > MAX_CTL_WAITING || payload.length > MIB) {
    link.dropped++;
    return;
  }
  link.ctl.push(payload);
  link.ctlBytes += payload.length;
  link.queuedBytes += payload.length;
}

/** Whose turn the stream's sending counts against from now on. */
export function regroup(link: LinkState, s: StreamState, group: GroupKey): void {
  leave(s);
  s.group = group;
  seat(link, s);
}
