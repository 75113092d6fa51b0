/**
 * One HTTP/2 connection of a caller. Its streams are its requests; what it costs beside them is bounded: streams, headers, bytes of
 * bodies that wait for their agents, and frames that make work for nothing. It closes when it has been idle, or drained.
 */
import { constants, performServerHandshake, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import type { Millis } from "../../actors/actor.ts";
import { Bag } from "../../actors/bag.ts";
import { failure } from "../../actors/failure.ts";
import { Failed } from "../failed.ts";
import { keepsItsWindows } from "../link/carriers/server-window.ts";
import { readHttp2Head } from "./http2-head.ts";
import { Http2Wire } from "./http2-wire.ts";
import { recordRefusal } from "./malformed.ts";
import type { ProxyLimits, VisitContext } from "./visit.ts";
import type { Verdict, Wire } from "./wire.ts";

const { NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_NO_ERROR, NGHTTP2_REFUSED_STREAM } = constants;
const MIB = 1024 * 1024;
/** What a caller may send of one body before its agent takes it; an upload over 20 ms then makes 50 MB/s. */
const STREAM_WINDOW = MIB;
const SESSION_WINDOW = 8 * MIB;
const NUISANCE_WITHIN: Millis = 10_000;
const RESET_COUNTS = 2;
const SWEEP_EVERY: Millis = 10_000;
const ENDED_WITHIN: Millis = 5_000;

const sessionOptions = ({ maxStreams, maxHeaderBytes }: ProxyLimits) => ({
  settings: {
    maxConcurrentStreams: maxStreams,
    initialWindowSize: STREAM_WINDOW,
    // HTTP/2 counts 32 bytes more for each header. What is above ours but not above this is refused in words.
    maxHeaderListSize: 2 * maxHeaderBytes,
    enablePush: false,
    enableConnectProtocol: false,
  },
  maxHeaderListPairs: 1024, // counted by us, with a reason
  maxSessionMemory: 64,
  maxSendHeaderBlockLength: 256 * 1024,
  maxSessionInvalidFrames: 100,
  maxSessionRejectedStreams: 100,
  maxOutstandingPings: 1,
  maxSettings: 16,
});

export type BeginRequest = (wire: Wire, fault: Verdict | null, awaitsContinue: boolean) => void;

export class CallerSession {
  readonly #session: ServerHttp2Session;
  readonly #socket: Socket;
  readonly #context: VisitContext;
  readonly #begin: BeginRequest;
  readonly #wires = new Bag<Http2Wire>();
  #timer: Disposable;
  #idleSince: Millis;
  #served = false;
  /** Drained before its first request, which is still served: it must have somewhere to go. */
  #lastIsFirst = false;
  #draining = false;
  #lastStream = 0;
  /** Of bodies that are read, what may be held at most. */
  #reserved = 0;
  #nuisance = 0;
  #nuisanceSince: Millis;

  constructor(socket: Socket, context: VisitContext, begin: BeginRequest) {
    this.#socket = socket;
    this.#context = context;
    this.#begin = begin;
    this.#idleSince = context.clock.now();
    this.#nuisanceSince = this.#idleSince;
    this.#ownSocket();
    this.#session = performServerHandshake(socket, sessionOptions(context.limits));
    keepsItsWindows(this.#session);
    this.#session.setLocalWindowSize(SESSION_WINDOW);
    this.#session.on("stream", (stream, _headers, _flags, raw) => this.#stream(stream, raw));
    this.#session.on("ping", () => this.#bother(1));
    this.#session.on("remoteSettings", () => this.#bother(1));
    this.#session.on("error", (error) => this.#broken(error));
    this.#timer = this.#check(Math.min(SWEEP_EVERY, context.limits.headersTimeout));
    socket.once("close", () => this.#timer[Symbol.dispose]());
  }

  /**
   * The caller hears which of its requests was the last that runs here, and repeats later ones elsewhere by itself. Only one
   * GOAWAY: see docs/adr/0010-one-goaway.md.
   */
  drain(): void {
    if (this.#draining || this.#session.destroyed) return;
    this.#lastIsFirst = !this.#served;
    if (this.#lastIsFirst) return;
    this.#draining = true;
    this.#session.goaway(NGHTTP2_NO_ERROR, this.#lastStream);
  }

  closeIfIdle(): void {
    if (this.#wires.size === 0) this.#session.close();
  }

  /** Listeners leave sockets half-open; who stops sending can no more take an HTTP/2 answer. */
  #ownSocket(): void {
    const { clock } = this.#context;
    const socket = this.#socket;
    socket.once("end", () => socket.destroy());
    socket.once("finish", () => {
      const answered = clock.schedule(clock.now() + ENDED_WITHIN, () => socket.destroy());
      socket.once("close", () => answered[Symbol.dispose]());
    });
  }

  #stream(stream: ServerHttp2Stream, raw: readonly string[]): void {
    const id = stream.id ?? 0;
    if (this.#draining && id > this.#lastStream) {
      stream.on("error", ignore);
      stream.close(NGHTTP2_REFUSED_STREAM); // the GOAWAY says that it did not run
      return;
    }
    this.#lastStream = id;
    this.#served = true;
    const { limits } = this.#context;
    const head = readHttp2Head(raw, !stream.endAfterHeaders, limits);
    const held = stream.endAfterHeaders ? 0 : bodyHeld(head.contentLength);
    const fault = head.fault ?? (held > 0 && this.#reserved + held > limits.maxBodyBytes ? TOO_MANY_BODIES : null);
    const reserved = fault ? 0 : held;
    this.#reserved += reserved;
    const wire = new Http2Wire(stream, head, this.#context.clock);
    const place = this.#wires.add(wire);
    wire.onOver(() => {
      this.#reserved -= reserved;
      place.remove();
      this.#streamOver();
    });
    stream.once("aborted", () => {
      if (!wire.answered) this.#bother(RESET_COUNTS);
    });
    this.#begin(wire, fault, head.awaitsContinue);
    if (this.#lastIsFirst) this.drain();
  }

  #streamOver(): void {
    if (this.#wires.size > 0) return;
    this.#idleSince = this.#context.clock.now();
    if (this.#draining) this.#session.close();
  }

  #check(after: Millis): Disposable {
    const { clock, limits } = this.#context;
    return clock.schedule(clock.now() + after, () => {
      for (const wire of this.#wires) wire.sweep();
      const idle = clock.now() - this.#idleSince;
      if (this.#wires.size === 0 && idle >= (this.#served ? limits.keepAliveTimeout : limits.headersTimeout)) {
        this.#session.close();
      }
      this.#timer = this.#check(Math.min(SWEEP_EVERY, limits.keepAliveTimeout));
    });
  }

  /** Frames that ask for work and bring no request. */
  #bother(count: number): void {
    const now = this.#context.clock.now();
    if (now - this.#nuisanceSince > NUISANCE_WITHIN) {
      this.#nuisanceSince = now;
      this.#nuisance = 0;
    }
    this.#nuisance += count;
    if (this.#nuisance <= this.#context.limits.maxNuisance || this.#session.destroyed) return;
    recordRefusal({ failure: NUISANCE, status: 0 }, this.#context);
    this.#session.destroy(new Failed(NUISANCE), NGHTTP2_ENHANCE_YOUR_CALM);
  }

  /** What node:http2 or nghttp2 makes of bytes that are not HTTP/2, or too much of it; requests have records of their own. */
  #broken(error: NodeJS.ErrnoException): void {
    if (error.code !== "ERR_HTTP2_ERROR" || this.#wires.size > 0) return;
    const reason = `bad request: the connection is not valid HTTP/2 (${error.message})`;
    recordRefusal({ failure: failure("invalid", reason), status: 0 }, this.#context);
  }
}

const bodyHeld = (contentLength: number): number =>
  contentLength < 0 ? STREAM_WINDOW : Math.min(contentLength, STREAM_WINDOW);

const TOO_MANY_BODIES: Verdict = {
  failure: failure(
    "busy",
    "too many uploads at once on one HTTP/2 connection: wait for some of them, or open another connection",
  ),
  status: 429,
};
const NUISANCE = failure(
  "busy",
  "too many pings, settings and requests taken back at once on one HTTP/2 connection: it was closed",
);

function ignore(): void {}
