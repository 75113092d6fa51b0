/**
 * What leaves when the carrier has room: control first, then CTL, then streams in fair turns, new ones before old ones.
 * Only what is handed to the sink has left: until then an OPEN is not sent, and its stream can be refused with proof.
 */
import type { Millis } from "./actor.ts";
import { creditRoundTrip, grant, KIB } from "./credit.ts";
import { FLAG_END, FRAME, type FrameSink, HEADER_BYTES, MAX_DATA_BYTES, PHASE } from "./frame.ts";
import { abort, control, FRESH_BYTES, finish, type LinkState, seat } from "./link.ts";
import { canSend, cut, EMPTY, endsNow, type StreamState } from "./stream.ts";
import { alone, front, leave, pass, type Turns } from "./turns.ts";

const QUANTUM = 16 * KIB;
/** No DATA frame is cut shorter than this only because a turn or a batch ends. */
const SHORTEST = 4 * KIB;
const ACKNOWLEDGE_WITH_OTHERS = 4 * KIB;
const ACKNOWLEDGE_ALONE = 32 * KIB;
const LOADED_PING_EVERY: Millis = 20;

const windowOpen = ({ window }: LinkState): boolean => window.unacknowledged < window.size;
const streamsWait = (link: LinkState): boolean =>
  link.fresh.first !== null || link.seasoned.first !== null || link.ctl.length > 0;

/** Would `pack` write anything, or `settle` tell anything? */
export function hasWork(link: LinkState): boolean {
  if (link.refused.length > 0 || link.greetings.length > 0 || link.exhausted === "due") return true;
  if (link.phase === "greeting" || link.phase === "closed") return false;
  if (link.control.length + link.resets.length > 0 || link.acknowledge >= ACKNOWLEDGE_ALONE) return true;
  if (link.pongDue >= 0 || link.pingDue || link.closeDue || link.drainDue || link.readyDue) return true;
  return windowOpen(link) && streamsWait(link);
}

/** Writes frames of about `most` bytes in all (more only if a single one is larger) and says how many bytes they took. */
export function pack(link: LinkState, sink: FrameSink, most: number, now: Millis): number {
  link.now = now;
  if (link.phase === "closed") return 0;
  let used = 0;
  for (const { flags, payload } of link.greetings) used += sink.frame(FRAME.hello, flags, 0, payload);
  link.greetings.length = 0;
  link.window.unacknowledged += used;
  if (link.phase === "greeting") return used;
  used += packLinkControl(link, sink, now);
  used += packResets(link, sink, most - used);
  used += packStreamControl(link, sink, most - used);
  used += packCtl(link, sink, most - used);
  used += packStreams(link, sink, most - used, used === 0);
  if ((link.full || link.probe) && link.pingSent < 0 && now - link.pinged >= LOADED_PING_EVERY)
    used += ping(link, sink, now);
  if (link.acknowledge >= (used > 0 ? ACKNOWLEDGE_WITH_OTHERS : ACKNOWLEDGE_ALONE)) used += acknowledge(link, sink);
  return used;
}

const spend = (link: LinkState, bytes: number): number => {
  link.sent += bytes;
  link.window.unacknowledged += bytes;
  return bytes;
};

function acknowledge(link: LinkState, sink: FrameSink): number {
  const bytes = link.acknowledge;
  link.acknowledge = 0;
  return spend(link, sink.number(FRAME.credit, 0, bytes));
}

function ping(link: LinkState, sink: FrameSink, now: Millis): number {
  link.pingDue = false;
  link.pingToken = (link.pingToken + 1) % 2 ** 32;
  link.pingSent = now;
  link.pinged = now;
  link.pingFull = link.full;
  link.pingBefore = link.window.unacknowledged;
  link.pingReceived = link.received;
  link.full = false;
  link.probe = false;
  return spend(link, sink.number(FRAME.ping, 0, link.pingToken));
}

function packLinkControl(link: LinkState, sink: FrameSink, now: Millis): number {
  let used = 0;
  if (link.pongDue >= 0) {
    used += spend(link, sink.number(FRAME.pong, 0, link.pongDue));
    link.pongDue = -1;
  }
  if (link.pingDue) used += ping(link, sink, now);
  if (link.readyDue) used += spend(link, sink.frame(FRAME.ready, 0, 0, EMPTY));
  if (link.drainDue) used += spend(link, sink.frame(FRAME.drain, 0, 0, EMPTY));
  if (link.closeDue) used += spend(link, sink.number(FRAME.close, 0, link.closeLast));
  link.readyDue = false;
  link.drainDue = false;
  link.closeDue = false;
  return used;
}

function packResets(link: LinkState, sink: FrameSink, room: number): number {
  let used = 0;
  while (used < room) {
    const next = link.resets.pop();
    if (!next) break;
    used += spend(link, sink.reset(next.id, next.reset));
  }
  return used;
}

function packStreamControl(link: LinkState, sink: FrameSink, room: number): number {
  let used = 0;
  while (used < room) {
    const s = link.control.pop();
    if (!s) break;
    s.inControl = false;
    if (s.over) continue;
    if (s.acceptDue) used += spend(link, sink.frame(FRAME.accept, 0, s.id, EMPTY));
    if (s.stopDue) used += spend(link, sink.frame(FRAME.stop, 0, s.id, EMPTY));
    if (s.creditDue && s.receivePhase !== PHASE.ended) used += packCredit(link, sink, s);
    s.acceptDue = false;
    s.stopDue = false;
    s.creditDue = false;
  }
  return used;
}

function packCredit(link: LinkState, sink: FrameSink, s: StreamState): number {
  if (s.window.taken >= s.window.size) link.probe = true;
  const bytes = grant(s.window, link.owner ?? s.group, creditRoundTrip(link.window), link.now);
  return bytes > 0 ? spend(link, sink.number(FRAME.credit, s.id, bytes)) : 0;
}

function packCtl(link: LinkState, sink: FrameSink, room: number): number {
  let used = 0;
  let packed = 0;
  for (const payload of link.ctl) {
    if (used >= room || !windowOpen(link)) break;
    used += spend(link, sink.frame(FRAME.ctl, 0, 0, payload));
    link.ctlBytes -= payload.length;
    link.queuedBytes -= payload.length;
    packed++;
  }
  if (packed > 0) link.ctl.splice(0, packed);
  return used;
}

function packStreams(link: LinkState, sink: FrameSink, room: number, empty: boolean): number {
  let used = 0;
  for (;;) {
    const all = link.fresh.first ? link.fresh : link.seasoned;
    const s = front(all);
    if (!s) break;
    if (!windowOpen(link)) {
      link.full = true;
      break;
    }
    if (s.turn <= 0) s.turn += alone(all) ? MAX_DATA_BYTES : QUANTUM;
    const bytes = packNext(link, sink, s, room - used, empty && used === 0);
    if (bytes === 0) break;
    used += bytes;
    takeTurn(link, all, s, bytes);
  }
  return used;
}

/** It sent `bytes` of its turn: it goes on, passes the turn, or has nothing more that may leave. */
function takeTurn(link: LinkState, all: Turns<StreamState>, s: StreamState, bytes: number): void {
  s.turn -= bytes;
  if (!canSend(s)) {
    leave(s);
    s.turn = 0;
  } else if (s.turn <= 0) {
    pass(all);
    if (all === link.seasoned || s.total < FRESH_BYTES) return;
    leave(s);
    seat(link, s);
  }
}

/** Writes the stream's next frame; 0 when it does not fit into `room`. */
function packNext(link: LinkState, sink: FrameSink, s: StreamState, room: number, empty: boolean): number {
  const fits = (bytes: number): boolean => empty || HEADER_BYTES + bytes <= room;
  if (s.head) return fits(s.head.length) ? packHead(link, sink, s, s.head) : 0;
  if (s.queued > 0) {
    const most = Math.min(MAX_DATA_BYTES, s.credit, Math.max(s.turn, SHORTEST));
    if (!fits(Math.min(SHORTEST, s.queued, most))) return 0;
    return packData(link, sink, s, empty ? most : Math.min(most, room - HEADER_BYTES));
  }
  if (s.trailer) {
    if (!fits(s.trailer.length)) return 0;
    const payload = s.trailer;
    s.trailer = null;
    link.queuedBytes -= payload.length;
    return write(link, sink, s, FRAME.trailer, payload);
  }
  return fits(0) ? write(link, sink, s, FRAME.end, EMPTY) : 0;
}

function packHead(link: LinkState, sink: FrameSink, s: StreamState, payload: Uint8Array): number {
  s.head = null;
  link.queuedBytes -= payload.length;
  if (!s.own) return write(link, sink, s, FRAME.head, payload);
  s.id = link.nextId;
  link.nextId += 2;
  s.unopened?.remove();
  link.streams.set(s.id, s);
  if (s.stopDue) control(link, s);
  return write(link, sink, s, FRAME.open, payload);
}

function packData(link: LinkState, sink: FrameSink, s: StreamState, most: number): number {
  const piece = cut(s, most);
  const { length } = piece;
  link.queuedBytes -= length;
  s.credit -= length;
  s.total += length;
  if (s.left === 0) link.left.push(s);
  s.left += length;
  return write(link, sink, s, FRAME.data, piece);
}

/** END is a flag where it can be. */
function write(link: LinkState, sink: FrameSink, s: StreamState, type: number, payload: Uint8Array): number {
  const last = endsNow(s);
  if (last) {
    s.ended = true;
    if (s.receivePhase === PHASE.ended) link.finished.push(s);
  }
  return spend(link, sink.frame(type, last && type !== FRAME.end ? FLAG_END : 0, s.id, payload));
}

/** Tells what became of the batch, once the carrier has it. To be called after every `pack`, whatever it wrote. */
export function settle(link: LinkState): void {
  if (link.left.length > 0) tellSent(link);
  if (link.finished.length > 0) for (const s of link.finished.splice(0)) finish(link, s);
  if (link.refused.length > 0) {
    for (const { stream, failure } of link.refused.splice(0)) abort(link, stream, { failure, unprocessed: true });
  }
  if (link.exhausted !== "due") return;
  link.exhausted = "told";
  link.drainDue = true;
  link.port.drain();
}

function tellSent(link: LinkState): void {
  for (const s of link.left.splice(0)) {
    const bytes = s.left;
    s.left = 0;
    if (bytes > 0 && !s.over) s.events.sent(bytes);
  }
}
