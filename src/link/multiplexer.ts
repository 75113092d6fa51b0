/**
 * A link over a carrier: gives the automaton of `actors/link.ts` its bytes, its clock and its turns of the event loop.
 * What was asked for during a turn leaves in one batch at its end, and only while the carrier has room.
 * Timer, carrier and partial frames are freed when the link closes, whoever closed it.
 */
import type { Millis } from "../../actors/actor.ts";
import { type Failure, failure } from "../../actors/failure.ts";
import type { FrameReset } from "../../actors/frame.ts";
import { close, createLink, end, greet, greeted, isDone, type LinkState, streamCount } from "../../actors/link.ts";
import { nextTick, tick } from "../../actors/link-liveness.ts";
import { receiveNumber } from "../../actors/link-number.ts";
import { hasWork, pack, settle } from "../../actors/link-pack.ts";
import { faultOf, heard, receiveFrame, receiveReset, violate } from "../../actors/link-receive.ts";
import { LINK_RULES } from "../../actors/link-rules.ts";
import { openStream, resetStream, sendCtl } from "../../actors/link-send.ts";
import type { StreamEvents, StreamState } from "../../actors/stream.ts";
import { failureOf } from "../status.ts";
import { FrameReader, FrameWriter } from "./frames.ts";
import { Greeting } from "./greeting.ts";
import type { Hello, Link, LinkOptions } from "./link.ts";
import { LinkedStream } from "./linked-stream.ts";
import type { Stream, StreamHandler } from "./stream.ts";

export function openLink(options: LinkOptions): Link {
  return new Multiplexer(options);
}

/** How long a carrier may take to flush the last bytes before it is ended by force. */
const LINGER: Millis = 1_000;

class Multiplexer implements Link {
  readonly #options: LinkOptions;
  readonly #link: LinkState;
  readonly #reader: FrameReader;
  readonly #writer = new FrameWriter();
  readonly #greeting: Greeting;
  #peer: Hello | null = null;
  readonly #turn: (run: () => void) => void;
  #inHand = 0;
  #scheduled = false;
  #flushing = false;
  #carrierClosed = false;
  #timer: Disposable | null = null;
  #timerAt: Millis = 0;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#turn = options.turn ?? this.#endOfTurn;
    const { role, limits, hello, clock, carrier } = options;
    const parity = role === "dialler" ? 1 : 2;
    const firstStream = limits?.firstStream ?? parity;
    const rules = { ...LINK_RULES, ...limits, firstStream, streamWindow: hello.streamWindow };
    this.#link = createLink(rules, this.#port(), clock.now(), options.pool, options.owner ?? null);
    this.#reader = new FrameReader(this.#target());
    this.#greeting = new Greeting(options, {
      say: (flags, payload) => greet(this.#link, flags, payload),
      up: (theirs) => this.#up(theirs),
      refuse: (why) => end(this.#link, { why, tell: true }),
    });
    carrier.onData = (chunk) => this.#receive(chunk);
    carrier.onClosed = (reason) => this.#lost(reason);
    this.#greeting.start();
    this.wake();
  }

  open(payload: Uint8Array, handler: StreamHandler, group: number | string): Stream {
    const state = openStream(this.#link, payload, handler, group);
    this.wake();
    return new LinkedStream(this.#link, state, this);
  }

  ctl(payload: Uint8Array): void {
    sendCtl(this.#link, payload);
    this.wake();
  }

  ready(): void {
    this.#link.readyDue = true;
    this.wake();
  }

  drain(): void {
    this.#link.drainDue = true;
    this.wake();
  }

  close(): void {
    close(this.#link);
    this.wake();
  }

  destroy(why: Failure): void {
    end(this.#link, { why, tell: true, streams: why });
  }

  get peer(): Hello | null {
    return this.#peer;
  }

  get state(): Link["state"] {
    return this.#link.phase;
  }

  get streams(): number {
    return streamCount(this.#link);
  }

  get bufferedBytes(): number {
    return this.#link.queuedBytes + this.#reader.partial;
  }

  get roundTrip(): Millis {
    return this.#link.window.roundTrip;
  }

  get dropped(): number {
    return this.#link.dropped;
  }

  get heard(): Millis {
    return this.#link.heard;
  }

  get silent(): boolean {
    return this.#link.silent;
  }

  /** With several streams the end of the turn gathers what all of them have; a stream that is alone waits for nobody. */
  readonly #endOfTurn = (run: () => void): void => {
    if (streamCount(this.#link) > 1) setImmediate(run);
    else process.nextTick(run);
  };

  /** Something may want to leave: at the end of this turn. */
  wake(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#turn(this.#flush);
  }

  readonly #flush = (): void => {
    this.#scheduled = false;
    if (this.#flushing) return;
    this.#flushing = true;
    try {
      settle(this.#link);
      this.#write();
    } catch (error) {
      this.#fault(0, error);
    }
    this.#flushing = false;
    if (isDone(this.#link)) {
      end(this.#link, { why: failure("draining", "the link was closed; all its streams had ended"), tell: false });
    }
    this.#arm();
  };

  #write(): void {
    const { carrier, clock } = this.#options;
    while (this.#inHand < carrier.maxBatches && hasWork(this.#link)) {
      if (pack(this.#link, this.#writer, carrier.maxBatchBytes, clock.now()) === 0) break;
      const { parts, bytes } = this.#writer.take();
      this.#inHand++;
      carrier.write(parts, bytes, this.#taken);
      settle(this.#link);
    }
  }

  readonly #taken = (): void => {
    this.#inHand--;
    if (!this.#flushing && hasWork(this.#link)) this.#flush();
  };

  #receive(chunk: Uint8Array): void {
    heard(this.#link, chunk.length, this.#options.clock.now());
    this.#reader.feed(chunk);
    if (hasWork(this.#link) || isDone(this.#link)) this.wake();
    this.#arm();
  }

  #up(theirs: Hello): void {
    this.#peer = theirs;
    const { rules } = this.#link;
    const peers = theirs.role === "kas" && this.#options.hello.role === "kas";
    greeted(this.#link, theirs.streamWindow, peers ? { ...rules, idlePingAfter: rules.pingAfter } : rules);
    this.#options.events.up(theirs);
    this.wake();
  }

  /** One timer, for the nearest thing that time decides; one that is early is harmless. */
  #arm(): void {
    const link = this.#link;
    if (link.phase === "closed") return;
    const at = nextTick(link);
    if (this.#timer && this.#timerAt <= at) return;
    this.#timer?.[Symbol.dispose]();
    this.#timerAt = at;
    this.#timer = this.#options.clock.schedule(at, () => {
      this.#timer = null;
      tick(link, this.#options.clock.now(), at);
      if (hasWork(link)) this.wake();
      this.#arm();
    });
  }

  #lost(reason: string): void {
    this.#carrierClosed = true;
    const link = this.#link;
    const orderly = link.closeReceived && streamCount(link) === 0;
    const why = orderly
      ? failure("draining", "the other side closed the link; all its streams had ended")
      : failure("node-gone", `the link was lost: ${reason}`);
    end(link, { why, tell: false });
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
  }

  #closed(why: Failure, farewell: FrameReset | null): void {
    this.#reader.stop();
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
    const { carrier, clock, events } = this.#options;
    if (!this.#carrierClosed) {
      if (farewell) {
        this.#writer.reset(0, farewell);
        const { parts, bytes } = this.#writer.take();
        carrier.write(parts, bytes, () => {});
      }
      carrier.end();
      // ending may have closed it at once
      if (!this.#carrierClosed) this.#timer = clock.schedule(clock.now() + LINGER, () => carrier.destroy());
    }
    events.closed(why);
  }

  /** A handler threw. The stream of the frame pays for it; without one the link does. */
  #fault(id: number, error: unknown): void {
    this.#options.events.fault?.(error);
    const why = failureOf(error);
    const stream = this.#link.streams.get(id);
    try {
      if (stream) resetStream(this.#link, stream, { failure: why, unprocessed: false }, true);
      else if (id === 0) end(this.#link, { why, tell: true });
    } catch (second) {
      this.#options.events.fault?.(second);
    }
  }

  #target() {
    const link = () => this.#link;
    return {
      fault: (type: number, flags: number, id: number, length: number) => faultOf(link(), type, flags, id, length),
      broken: (what: string) => violate(link(), what),
      frame: (type: number, flags: number, id: number, payload: Uint8Array) => {
        try {
          receiveFrame(this.#link, type, flags, id, payload);
        } catch (error) {
          this.#fault(id, error);
        }
      },
      number: (type: number, id: number, value: number) => {
        try {
          receiveNumber(this.#link, type, id, value);
        } catch (error) {
          this.#fault(id, error);
        }
      },
      reset: (id: number, reset: FrameReset) => {
        try {
          receiveReset(this.#link, id, reset);
        } catch (error) {
          this.#fault(id, error);
        }
      },
    };
  }

  #port() {
    const { events } = this.#options;
    return {
      hello: (flags: number, payload: Uint8Array) => this.#greeting.receive(flags, payload),
      open: (payload: Uint8Array, state: StreamState): StreamEvents | Failure => {
        try {
          return events.open(payload, new LinkedStream(this.#link, state, this));
        } catch (error) {
          const why = failureOf(error);
          if (why.code === "internal") events.fault?.(error);
          return why;
        }
      },
      wake: () => this.wake(),
      ready: () => events.ready(),
      drain: () => events.drain(),
      ctl: (payload: Uint8Array) => events.ctl(payload),
      closed: (why: Failure, farewell: FrameReset | null) => this.#closed(why, farewell),
    };
  }
}
