/**
 * Two ends of a link over a path with a length and a rate, in virtual time: each end is a process whose turns take as long as
 * the bytes it handles in them. What the automaton decides about windows and turns can be measured without a clock or a core.
 */
import type { Millis } from "../../actors/actor.ts";
import type { FrameSink } from "../../actors/frame.ts";
import { createLink, greeted, type LinkState } from "../../actors/link.ts";
import { receiveNumber } from "../../actors/link-number.ts";
import { hasWork, pack, settle } from "../../actors/link-pack.ts";
import { heard, receiveFrame, receiveReset } from "../../actors/link-receive.ts";
import { LINK_RULES, type LinkRules } from "../../actors/link-rules.ts";
import { type CreditPool, creditPool } from "../../actors/pool.ts";
import { DEAF, type StreamEvents, type StreamState } from "../../actors/stream.ts";
import { VirtualClock } from "./virtual-clock.ts";

export type PathOptions = {
  /** There and back. */
  readonly roundTrip: Millis;
  /** Of the path and of each process, bytes per millisecond. */
  readonly rate: number;
  readonly work: number;
  /** A turn takes at least so long. */
  readonly turn: Millis;
  /** Called for every other turn of a process: how much longer it takes, because others have the core. */
  readonly away?: () => Millis;
  readonly pool?: CreditPool;
};

type Batch = { readonly bytes: number; readonly frames: (() => void)[] };

/** As much as libuv reads from one socket before it looks at the others. */
const READ_AT_ONCE = 2 * 1024 * 1024;
const BATCH = 128 * 1024;

export class PathEnd {
  readonly link: LinkState;
  readonly path: LinkPath;
  /** Who serves what the other end opens. */
  serve: (stream: StreamState) => StreamEvents = () => DEAF;
  /** Done in each turn, before what is to be sent leaves. */
  everyTurn: () => void = () => {};
  #inbox: Batch[] = [];
  #inHand = 0;
  #freeAt: Millis = 0;

  constructor(path: LinkPath, rules: Partial<LinkRules>, pool: CreditPool) {
    this.path = path;
    this.link = createLink({ ...LINK_RULES, ...rules }, this.#port(), 0, pool);
    greeted(this.link, LINK_RULES.streamWindow);
  }

  get #other(): PathEnd {
    return this === this.path.near ? this.path.far : this.path.near;
  }

  turn(): void {
    const { clock, options } = this.path;
    const now: Batch[] = [];
    let bytes = 0;
    while (bytes < READ_AT_ONCE && this.#inbox.length > 0) {
      const next = this.#inbox.shift();
      if (!next) break;
      now.push(next);
      bytes += next.bytes;
    }
    const took = Math.max(options.turn, bytes / options.work) + (options.away?.() ?? 0);
    clock.schedule(clock.now() + took, () => {
      for (const batch of now) {
        heard(this.link, batch.bytes, clock.now());
        for (const frame of batch.frames) frame();
      }
      this.everyTurn();
      this.#flush();
      this.turn();
    });
  }

  #flush(): void {
    const { clock, options } = this.path;
    while (this.#inHand < 2 && hasWork(this.link)) {
      const frames: (() => void)[] = [];
      const bytes = pack(this.link, this.#sink(frames), BATCH, clock.now());
      settle(this.link);
      if (bytes === 0) return;
      this.#inHand++;
      this.#freeAt = Math.max(clock.now(), this.#freeAt) + bytes / options.rate;
      clock.schedule(this.#freeAt, () => {
        this.#inHand--;
        this.#flush();
      });
      clock.schedule(this.#freeAt + options.roundTrip / 2, () => this.#other.#inbox.push({ bytes, frames }));
    }
  }

  #sink(frames: (() => void)[]): FrameSink {
    const to = this.#other.link;
    return {
      frame: (type, flags, id, payload) => {
        frames.push(() => receiveFrame(to, type, flags, id, payload));
        return 9 + payload.length;
      },
      number: (type, id, value) => {
        frames.push(() => receiveNumber(to, type, id, value));
        return 13;
      },
      reset: (id, reset) => {
        frames.push(() => receiveReset(to, id, reset));
        return 10;
      },
    };
  }

  #port() {
    return {
      hello() {},
      open: (_: Uint8Array, stream: StreamState) => this.serve(stream),
      ready() {},
      drain() {},
      ctl() {},
      closed: ({ reason }: { readonly reason: string }) => {
        throw new Error(`the link was closed: ${reason}`);
      },
    };
  }
}

export class LinkPath {
  readonly clock = new VirtualClock(0);
  readonly options: PathOptions;
  readonly near: PathEnd;
  readonly far: PathEnd;

  constructor(options: PathOptions) {
    this.options = options;
    this.near = new PathEnd(this, { firstStream: 1 }, creditPool());
    this.far = new PathEnd(this, { firstStream: 2 }, options.pool ?? creditPool());
    this.near.turn();
    this.clock.advance(0.3); // no two processes turn at the same instant
    this.far.turn();
  }
}
