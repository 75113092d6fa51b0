/** What tests of links share: a clock by hand, a pair of automata without a codec, and handlers that write down what they hear. */
import type { Millis } from "../../actors/actor.ts";
import type { Failure } from "../../actors/failure.ts";
import type { FrameReset, FrameSink } from "../../actors/frame.ts";
import { createLink, greeted, type LinkPort, type LinkState } from "../../actors/link.ts";
import { receiveNumber } from "../../actors/link-number.ts";
import { pack, settle } from "../../actors/link-pack.ts";
import { heard, receiveFrame, receiveReset } from "../../actors/link-receive.ts";
import { LINK_RULES, type LinkRules } from "../../actors/link-rules.ts";
import type { CreditPool } from "../../actors/pool.ts";
import type { StreamEvents, StreamState } from "../../actors/stream.ts";
import type { Hello, LinkEvents } from "../../src/link/link.ts";
import type { Stream, StreamHandler } from "../../src/link/stream.ts";
import type { Clock } from "../../src/runtime/clock.ts";

export class HandClock implements Clock {
  #now: Millis = 1_000;
  #timers = new Set<{ readonly at: Millis; readonly run: () => void }>();

  now(): Millis {
    return this.#now;
  }

  schedule(at: Millis, run: () => void): Disposable {
    const timer = { at, run };
    this.#timers.add(timer);
    return { [Symbol.dispose]: () => void this.#timers.delete(timer) };
  }

  get timers(): number {
    return this.#timers.size;
  }

  advance(by: Millis): void {
    const until = this.#now + by;
    for (;;) {
      const [next] = [...this.#timers].filter(({ at }) => at <= until).toSorted((a, b) => a.at - b.at);
      if (!next) break;
      this.#timers.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.run();
    }
    this.#now = until;
  }
}

/** Everything a stream's user was told, in order; bytes of DATA are joined. */
export class Notes implements StreamHandler {
  readonly told: string[] = [];
  bytes = 0;
  sentBytes = 0;
  text = "";
  ending: FrameReset | null = null;

  accepted(): void {
    this.told.push("accepted");
  }
  head(payload: Uint8Array): void {
    this.told.push(`head ${Buffer.from(payload)}`);
  }
  data(bytes: Uint8Array): void {
    if (this.told.at(-1) !== "data") this.told.push("data");
    this.bytes += bytes.length;
    this.text += Buffer.from(bytes).toString("latin1");
  }
  trailer(payload: Uint8Array): void {
    this.told.push(`trailer ${Buffer.from(payload)}`);
  }
  end(): void {
    this.told.push("end");
  }
  stopped(): void {
    this.told.push("stopped");
  }
  reset(reset: FrameReset): void {
    this.ending = reset;
    this.told.push(`reset ${reset.failure.code}${reset.unprocessed ? " unprocessed" : ""}`);
  }
  sent(bytes: number): void {
    this.sentBytes += bytes;
  }
  closed(): void {
    this.told.push("closed");
  }
}

export const bytes = (text: string): Uint8Array => Buffer.from(text);

export type Sent = readonly [type: number, id: number, detail: number | string];

/** One automaton, what it was told, and the frames it sent last. */
export class End implements LinkPort {
  readonly link: LinkState;
  readonly told: string[] = [];
  readonly streams: { readonly state: StreamState; readonly notes: Notes }[] = [];
  refuse: Failure | null = null;
  farewell: FrameReset | null = null;

  constructor(rules: Partial<LinkRules>, now: Millis, pool?: CreditPool) {
    this.link = createLink({ ...LINK_RULES, opensPerSecond: 1_000_000, ...rules }, this, now, pool);
  }
  hello(): void {
    this.told.push("hello");
  }
  open(_payload: Uint8Array, state: StreamState): StreamEvents | Failure {
    if (this.refuse) return this.refuse;
    const notes = new Notes();
    this.streams.push({ state, notes });
    return notes;
  }
  ready(): void {
    this.told.push("ready");
  }
  drain(): void {
    this.told.push("drain");
  }
  ctl(payload: Uint8Array): void {
    this.told.push(`ctl ${Buffer.from(payload)}`);
  }
  closed(why: Failure, tell: FrameReset | null): void {
    this.farewell = tell;
    this.told.push(`closed ${why.code}`);
  }

  get last(): { readonly state: StreamState; readonly notes: Notes } {
    const last = this.streams.at(-1);
    if (!last) throw new RangeError("no stream was opened here");
    return last;
  }
}

/** Two automata that hand each other their frames when told to, with no codec in between. */
export class Pair {
  now: Millis = 1_000;
  readonly a: End;
  readonly b: End;
  readonly frames: Sent[] = [];

  /** `pool`: of the second end. */
  constructor(a: Partial<LinkRules> = {}, b: Partial<LinkRules> = {}, pool?: CreditPool) {
    this.a = new End({ firstStream: 1, ...a }, this.now);
    this.b = new End({ firstStream: 2, ...b }, this.now, pool);
    greeted(this.a.link, this.b.link.rules.streamWindow);
    greeted(this.b.link, this.a.link.rules.streamWindow);
  }

  /** One batch from one end to the other. */
  carry(from: End, most = 128 * 1024): number {
    const to = from === this.a ? this.b : this.a;
    const deliver: (() => void)[] = [];
    const took = pack(from.link, this.#sink(to, deliver), most, this.now);
    settle(from.link);
    if (took > 0) heard(to.link, took, this.now);
    for (const frame of deliver) frame();
    return took;
  }

  /** Back and forth until nothing moves. */
  run(): this {
    while (this.carry(this.a) + this.carry(this.b) > 0);
    return this;
  }

  #sink(to: End, deliver: (() => void)[]): FrameSink {
    return {
      frame: (type, flags, id, payload) => {
        this.frames.push([type, id, payload.length]);
        deliver.push(() => receiveFrame(to.link, type, flags, id, payload));
        return 9 + payload.length;
      },
      number: (type, id, value) => {
        this.frames.push([type, id, value]);
        deliver.push(() => receiveNumber(to.link, type, id, value));
        return 13;
      },
      reset: (id, reset) => {
        this.frames.push([9, id, reset.failure.code]);
        deliver.push(() => receiveReset(to.link, id, reset));
        return 10 + reset.failure.reason.length;
      },
    };
  }
}

export const helloOf = (name: string, role: "kas" | "agent" = "kas", more: Partial<Hello> = {}): Hello => ({
  cluster: "default",
  name,
  role,
  expects: "",
  versions: [1, 1],
  capabilities: [],
  streamWindow: 64 * 1024,
  instance: "",
  process: "",
  link: 0,
  lost: [],
  version: "test",
  node: `${name}.1`,
  nonce: `nonce of ${name}`,
  ...more,
});

/** Events of a link that are written down; `serve` answers what the other side opens. */
export class LinkNotes implements LinkEvents {
  readonly told: string[] = [];
  failure: Failure | null = null;
  readonly faults: unknown[] = [];
  readonly #serve: (payload: Uint8Array, stream: Stream) => StreamHandler;

  constructor(serve: (payload: Uint8Array, stream: Stream) => StreamHandler = () => new Notes()) {
    this.#serve = serve;
  }
  up(peer: Hello): void {
    this.told.push(`up ${peer.name}`);
  }
  open(payload: Uint8Array, stream: Stream): StreamHandler {
    return this.#serve(payload, stream);
  }
  ready(): void {
    this.told.push("ready");
  }
  drain(): void {
    this.told.push("drain");
  }
  ctl(payload: Uint8Array): void {
    this.told.push(`ctl ${Buffer.from(payload)}`);
  }
  closed(failure: Failure): void {
    this.failure = failure;
    this.told.push(`closed ${failure.code}`);
  }
  fault(error: unknown): void {
    this.faults.push(error);
  }
}

/** Turns of the event loop until the condition holds; fails when it never does. */
export async function until(condition: () => boolean, turns = 20_000): Promise<void> {
  for (let turn = 0; turn < turns; turn++) {
    if (condition()) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
  throw new Error("the condition never held");
}
