/**
 * One end of a link: its streams, windows and turns. Inputs are calls: the user's wishes (`link-send.ts`), frames
 * (`link-receive.ts`), the carrier's room (`link-pack.ts`), the time (`link-liveness.ts`); outputs are frames for a sink and events.
 * Deterministic: it reads no clock, no dice, no socket. The record is changed in place, because it is touched for every frame (ADR 0002).
 * Always: ids rise in the order their OPENs leave; a stream closes exactly once; `queuedBytes` is what its streams and CTL hold.
 */
import type { Millis } from "./actor.ts";
import { Bag } from "./bag.ts";
import { KIB, type LinkWindow, linkWindow, release as releaseWindow, STREAM_FLOOR } from "./credit.ts";
import { type Failure, failure } from "./failure.ts";
import type { FrameReset } from "./frame.ts";
import { IdTable } from "./id-table.ts";
import type { LinkRules } from "./link-rules.ts";
import { type CreditPool, creditPool, type PooledLink } from "./pool.ts";
import { canSend, discard, type StreamEvents, type StreamState, waiting } from "./stream.ts";
import { type GroupKey, leave, sit, type Turns, turns } from "./turns.ts";

/** Whom the link tells what concerns all of it. */
export interface LinkPort {
  hello(flags: number, payload: Uint8Array): void;
  /** The other side opened a stream: who serves it, or why nobody does. */
  open(payload: Uint8Array, stream: StreamState): StreamEvents | Failure;
  ready(): void;
  /** Streams should be opened on another link: the other side asks for it, or the ids of this one run out. */
  drain(): void;
  ctl(payload: Uint8Array): void;
  /** The link is over and so are its streams. `tell`: the other side does not know why yet. */
  closed(why: Failure, tell: FrameReset | null): void;
  /** There is something to send that no call of the link's user asked for. */
  wake?(): void;
}

export type LinkState = {
  readonly port: LinkPort;
  rules: LinkRules;
  now: Millis;
  phase: "greeting" | "up" | "closing" | "closed";
  readonly streams: IdTable<StreamState>;
  /** Streams of ours whose OPEN did not leave yet; they have no id. */
  readonly unopened: Bag<StreamState>;
  /** Our next id, the highest of the other side, and the highest of theirs that is served after our CLOSE. */
  nextId: number;
  theirLast: number;
  closeSent: boolean;
  closeLast: number;
  closeReceived: boolean;
  peerWindow: number;
  readonly pool: CreditPool;
  readonly pooled: PooledLink;
  /** Whose all its streams are; null: each its group's. */
  readonly owner: GroupKey | null;
  readonly window: LinkWindow;

  /** Streams that sent less than 64 KiB so far are served before the others. */
  readonly fresh: Turns<StreamState>;
  readonly seasoned: Turns<StreamState>;
  queuedBytes: number;

  /** Control frames that wait. */
  readonly greetings: { readonly flags: number; readonly payload: Uint8Array }[];
  readonly control: StreamState[];
  readonly resets: { readonly id: number; readonly reset: FrameReset }[];
  readonly ctl: Uint8Array[];
  ctlBytes: number;
  readyDue: boolean;
  drainDue: boolean;
  closeDue: boolean;
  pongDue: number;
  pingDue: boolean;
  /** Link bytes that came and are not acknowledged. */
  acknowledge: number;

  /** Told when the batch is with the carrier: whose DATA left, who is over, who was refused here. */
  readonly left: StreamState[];
  readonly finished: StreamState[];
  readonly refused: { readonly stream: StreamState; readonly failure: Failure }[];
  exhausted: "no" | "due" | "told";

  readonly since: Millis;
  heard: Millis;
  /** When the first PING since the last frame was due; -1: none. */
  silentSince: Millis;
  /** It ended because no answer to that came in time. */
  silent: boolean;
  pingToken: number;
  pingSent: Millis;
  pinged: Millis;
  pingFull: boolean;
  pingBefore: number;
  /** `received` then. */
  pingReceived: number;
  /** Link bytes that ever came. */
  received: number;
  /** DATA had to wait for the link's window since the last PING. */
  full: boolean;
  /** A window was used up since then: how long credit takes decides whether it grows. */
  probe: boolean;
  rateSince: Millis;
  rate: number;
  controls: number;
  ctlCame: number;
  /** Link bytes that ever left, and had when the second began. */
  sent: number;
  sentBefore: number;
  /** Frames for streams seen and gone, and CTL thrown away. */
  dropped: number;
};

export function createLink(
  rules: LinkRules,
  port: LinkPort,
  now: Millis,
  pool = creditPool(),
  owner: GroupKey | null = null,
): LinkState {
  const streams = new IdTable<StreamState>();
  const link: LinkState = {
    port,
    rules,
    now,
    phase: "greeting",
    streams,
    unopened: new Bag(),
    nextId: rules.firstStream,
    theirLast: 0,
    closeSent: false,
    closeLast: 0,
    closeReceived: false,
    peerWindow: STREAM_FLOOR,
    pool,
    pooled: { streams, giveWay: (id, reset) => giveWay(link, id, reset) },
    owner,
    window: linkWindow(),
    fresh: turns(),
    seasoned: turns(),
    queuedBytes: 0,
    greetings: [],
    control: [],
    resets: [],
    ctl: [],
    ctlBytes: 0,
    readyDue: false,
    drainDue: false,
    closeDue: false,
    pongDue: -1,
    pingDue: false,
    acknowledge: 0,
    left: [],
    finished: [],
    refused: [],
    exhausted: "no",
    since: now,
    heard: now,
    silentSince: -1,
    silent: false,
    pingToken: 0,
    pingSent: -1,
    pinged: now,
    pingFull: false,
    pingBefore: 0,
    pingReceived: 0,
    received: 0,
    full: false,
    probe: false,
    rateSince: now,
    rate: 0,
    controls: 0,
    ctlCame: 0,
    sent: 0,
    sentBefore: 0,
    dropped: 0,
  };
  pool.links.add(link.pooled);
  return link;
}

/** Streams that are open or want to be. */
export const streamCount = (link: LinkState): number => link.streams.size + link.unopened.size;

/** A payload of HELLO that we say; the other side's comes by `port.hello`. */
export function greet(link: LinkState, flags: number, payload: Uint8Array): void {
  link.greetings.push({ flags, payload });
}

/** Both HELLOs are in order: streams may flow. `peerWindow` is what the other side's HELLO lets our streams send. */
export function greeted(link: LinkState, peerWindow: number, rules: LinkRules = link.rules): void {
  if (link.phase !== "greeting") return;
  link.phase = "up";
  link.rules = rules;
  link.peerWindow = peerWindow;
  link.pingDue = true; // the first round trip, while nothing else is on its way
  for (const stream of link.unopened) {
    stream.credit = peerWindow;
    seat(link, stream);
  }
}

/** Gives the stream its place among those that can send, or takes it away. */
export function seat(link: LinkState, s: StreamState): void {
  if (!canSend(s)) leave(s);
  else if (!s.over && link.phase !== "greeting") sit(s.total < FRESH_BYTES ? link.fresh : link.seasoned, s, s.group);
}

/** Asks for the stream's pending control frames to be sent; before its OPEN left there is nothing to say about it. */
export function control(link: LinkState, s: StreamState): void {
  if (s.inControl || s.id === 0) return;
  s.inControl = true;
  link.control.push(s);
}

function release(link: LinkState, s: StreamState): void {
  s.over = true;
  leave(s);
  link.queuedBytes -= waiting(s);
  s.head = null;
  discard(s);
  if (s.id > 0) link.streams.delete(s.id);
  s.unopened?.remove();
  releaseWindow(s.window, link.now);
}

/** The stream is over by its own end or its user's wish: everything of it is freed, then the user is told. */
export function finish(link: LinkState, s: StreamState): void {
  if (s.over) return;
  release(link, s);
  if (s.left > 0 && s.ended) s.events.sent(s.left);
  s.left = 0;
  s.events.closed();
}

/** The stream is over because the other side, the link or a fault here says so. */
export function abort(link: LinkState, s: StreamState, reset: FrameReset): void {
  if (s.over) return;
  release(link, s);
  s.left = 0;
  s.events.reset(reset);
  s.events.closed();
}

/** The process holds too much: of all its streams this one is reset. */
function giveWay(link: LinkState, id: number, reset: FrameReset): void {
  const s = link.streams.get(id);
  if (!s) return;
  link.resets.push({ id, reset });
  abort(link, s, reset);
  link.port.wake?.();
}

/** CLOSE: no new stream either way from now on; those that are open, or wait for their OPEN to leave, go on. */
export function close(link: LinkState): void {
  if (link.phase === "greeting") {
    end(link, { why: failure("draining", "the link was closed before it was up"), tell: true });
  } else if (link.phase !== "closed" && !link.closeSent) {
    link.phase = "closing";
    link.closeSent = true;
    link.closeLast = link.theirLast;
    link.closeDue = true;
  }
}

type Ending = {
  readonly why: Failure;
  /** The other side is there and should hear it. */
  readonly tell: boolean;
  /** What the streams are reset with; without it they hear `node-gone` and the reason. */
  readonly streams?: Failure;
  /** The other side proved that it looked at none of our streams. */
  readonly unprocessed?: boolean;
};

/** The link is over: every stream is reset, those whose OPEN never left with the proof of it. Does nothing twice. */
export function end(link: LinkState, { why, tell, streams, unprocessed = false }: Ending): void {
  if (link.phase === "closed") return;
  const early = link.phase === "greeting";
  link.phase = "closed";
  const cause = streams ?? failure("node-gone", why.reason);
  for (const s of link.unopened) abort(link, s, { failure: cause, unprocessed: true });
  for (const s of [...link.streams.values()]) abort(link, s, { failure: cause, unprocessed: unprocessed && s.own });
  for (const list of [link.control, link.resets, link.ctl, link.greetings]) list.length = 0;
  link.queuedBytes -= link.ctlBytes;
  link.ctlBytes = 0;
  link.pool.links.delete(link.pooled);
  link.port.closed(why, tell ? { failure: why, unprocessed: early } : null);
}

/** Nothing is left to do after our CLOSE: the carrier may end. */
export const isDone = (link: LinkState): boolean =>
  link.phase === "closing" &&
  link.closeSent &&
  !link.closeDue &&
  streamCount(link) === 0 &&
  link.control.length + link.resets.length + link.finished.length + link.refused.length === 0;

export const FRESH_BYTES = 64 * KIB;
