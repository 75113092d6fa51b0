/**
 * An agent that carries one request per call, behind what a holder needs of a link. Its capacity may be 0: an OPEN then waits
 * here, bounded in number and by the time it has left to be accepted, and ends with proof that nothing ran.
 */
import { type Failure, failure } from "../../actors/failure.ts";
import type { AgentLink } from "../../src/cluster/holder.ts";
import { decodeOpen, type Open } from "../../src/link/messages.ts";
import type { Reset, Stream, StreamHandler } from "../../src/link/stream.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import { type StreamEnd, streamPair } from "./stream-pair.ts";
import type { Behaviour, Served } from "./streams.ts";

const MAX_WAITING = 4;

/** One request: it waits for a call, then is that call. What its user did meanwhile is done then. */
class Pooled implements Stream {
  readonly open: Open;
  readonly #user: StreamHandler;
  readonly #over: (pooled: Pooled) => void;
  readonly #patience: Disposable;
  #stream: StreamEnd | null = null;
  #wishes: ((stream: Stream) => void)[] = [];
  #waiting = 0;
  #isOver = false;

  constructor(clock: Clock, open: Open, user: StreamHandler, over: (pooled: Pooled) => void) {
    this.open = open;
    this.#user = user;
    this.#over = over;
    const late = () => this.refuse(failure("busy", "no call of the agent was free in time"));
    this.#patience = clock.schedule(clock.now() + open.acceptWithin, late);
  }

  /** Proof: no call ever carried it. */
  refuse(reason: Failure, unprocessed = true): void {
    if (this.#isOver) return;
    const stream = this.#stream;
    this.#end({ failure: reason, unprocessed: unprocessed && stream === null });
    stream?.reset({ failure: reason, unprocessed: false });
  }

  carry(behave: (stream: Stream) => Served): Served {
    this.#patience[Symbol.dispose]();
    let served: Served | null = null;
    const user = this.#user;
    const guarded: StreamHandler = {
      accepted: () => !this.#isOver && user.accepted(),
      head: (payload) => !this.#isOver && user.head(payload),
      data: (bytes) => !this.#isOver && user.data(bytes),
      trailer: (payload) => !this.#isOver && user.trailer(payload),
      end: () => !this.#isOver && user.end(),
      stopped: () => !this.#isOver && user.stopped(),
      sent: (bytes) => !this.#isOver && user.sent(bytes),
      reset: (reset) => this.#end(reset),
      closed: () => this.#end(null),
    };
    this.#stream = streamPair(guarded, (stream) => {
      served = behave(stream);
      return served;
    }).caller;
    for (const wish of this.#wishes.splice(0)) wish(this.#stream);
    this.#waiting = 0;
    if (!served) throw new RangeError("a call serves at once");
    return served;
  }

  #end(reset: Reset | null): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#patience[Symbol.dispose]();
    this.#over(this);
    if (reset) this.#user.reset(reset);
    this.#user.closed();
  }

  #wish(wish: (stream: Stream) => void): void {
    if (this.#isOver) return;
    if (this.#stream) wish(this.#stream);
    else this.#wishes.push(wish);
  }

  get queued(): number {
    return this.#stream?.queued ?? this.#waiting;
  }
  accept(): void {}
  head(): void {}
  trailer(): void {}
  data(bytes: Uint8Array): void {
    if (!this.#stream) this.#waiting += bytes.length;
    this.#wish((stream) => stream.data(bytes));
  }
  end(): void {
    this.#wish((stream) => stream.end());
  }
  stop(): void {
    this.#wish((stream) => stream.stop());
  }
  consumed(bytes: number): void {
    this.#stream?.consumed(bytes);
  }
  reset(reset: Reset): void {
    if (this.#isOver) return;
    this.#stream?.reset(reset);
    this.#end(null);
  }
}

export class CallPool implements AgentLink {
  readonly #clock: Clock;
  readonly #behaviour: Behaviour;
  readonly #served: Served[];
  readonly #waiting: Pooled[] = [];
  readonly #running = new Set<Pooled>();
  #idle = 0;
  state: AgentLink["state"] = "up";
  readonly roundTrip = 0;
  readonly told: string[] = [];

  constructor(clock: Clock, behaviour: Behaviour, served: Served[]) {
    this.#clock = clock;
    this.#behaviour = behaviour;
    this.#served = served;
  }

  /** The agent opened this many more calls. */
  offer(calls: number): void {
    this.#idle += calls;
    while (this.#idle > 0 && this.#waiting.length > 0) this.#carry(this.#waiting.shift());
  }

  open(payload: Uint8Array, handler: StreamHandler): Stream {
    const pooled = new Pooled(this.#clock, decodeOpen(payload), handler, (over) => {
      this.#running.delete(over);
      const at = this.#waiting.indexOf(over);
      if (at >= 0) this.#waiting.splice(at, 1);
    });
    if (this.#idle > 0) this.#carry(pooled);
    else if (this.#waiting.length < MAX_WAITING) this.#waiting.push(pooled);
    else setImmediate(() => pooled.refuse(failure("busy", "too many requests wait for a call of this agent")));
    return pooled;
  }

  #carry(pooled: Pooled | undefined): void {
    if (!pooled) return;
    this.#idle--;
    this.#running.add(pooled);
    this.#served.push(pooled.carry((stream) => this.#behaviour(pooled.open, stream, "call", () => {})));
  }

  get streams(): number {
    return this.#waiting.length + this.#running.size;
  }
  get bufferedBytes(): number {
    return 0;
  }
  ready(): void {
    this.told.push("ready");
  }
  drain(): void {
    this.told.push("drain");
  }
  destroy(reason: Failure): void {
    this.state = "closed";
    this.told.push(`destroyed ${reason.code}`);
    for (const pooled of [...this.#waiting, ...this.#running]) pooled.refuse(reason, !this.#running.has(pooled));
  }
}
