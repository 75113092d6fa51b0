/**
 * A connection between two simulated processes: bytes arrive in order, late, cut into chunks anywhere, and only as fast as
 * the path is. Either direction can stall or fall silent, the whole can be cut after any byte, or vanish without a word.
 */
import type { Millis } from "../../actors/actor.ts";
import type { Carrier } from "../../src/link/link.ts";
import type { Process } from "./process.ts";
import type { VirtualClock } from "./virtual-clock.ts";

export type WireOptions = {
  readonly time: VirtualClock;
  /** 0 ≤ x < 1. */
  readonly random: () => number;
  /** Who is at each end. */
  readonly processes: readonly [Process, Process];
  /** Does what this end sends come out at the other? What does not waits. */
  readonly open: (from: 0 | 1) => boolean;
  /** Told of every batch that is written, and of every chunk that arrives. */
  readonly written?: (from: 0 | 1, batch: readonly Uint8Array[]) => void;
  readonly arrived?: (from: 0 | 1, bytes: number) => void;
};

/** How a path is: the same in both directions. */
type Path = {
  readonly latency: Millis;
  /** Bytes a millisecond. */
  readonly speed: number;
  /** What the kernels at both ends hold of one direction. */
  readonly buffer: number;
  /** How likely a chunk is cut in two. */
  readonly shred: number;
};

type Batch = { readonly parts: readonly Uint8Array[]; readonly bytes: number; readonly taken: () => void };
/** Bytes on their way; null: the end of the direction. */
type Flight = { bytes: Uint8Array | null; at: Millis };

const LOOK_AGAIN: Millis = 150;

export class Wire {
  readonly ends: readonly [WireEnd, WireEnd];
  vanished = false;

  constructor(options: WireOptions) {
    const { random } = options;
    const path: Path = {
      latency: random() < 0.7 ? 0.2 + random() : random() * 20,
      speed: 1_000 * 10 ** (random() * 1.7),
      buffer: 8_192 * 2 ** Math.floor(random() * 6),
      shred: random() < 0.5 ? 0.05 : 0.4,
    };
    this.ends = [new WireEnd(this, options, path, 0), new WireEnd(this, options, path, 1)];
    this.ends[0].other = this.ends[1];
    this.ends[1].other = this.ends[0];
  }

  get isOver(): boolean {
    return this.ends[0].closed && this.ends[1].closed;
  }

  /** Nothing comes out of it any more at either end, not even its end. */
  vanish(): void {
    this.vanished = true;
  }

  /** Both ends are lost once `bytes` more of what this end sends came out. */
  cut(from: 0 | 1, bytes: number): void {
    this.ends[from].cutAfter(bytes);
  }

  /** The process at this end is gone; its kernel says so unless the machine went with it. */
  died(end: 0 | 1): void {
    this.ends[end].abandon();
  }
}

export class WireEnd implements Carrier {
  readonly maxBatchBytes: number;
  readonly maxBatches: number;
  onData: (chunk: Uint8Array) => void = () => {};
  onClosed: (reason: string) => void = () => {};
  /** Called when this end is no more, before its user hears of it. */
  onGone: () => void = () => {};
  closed = false;
  other: WireEnd | null = null;
  readonly wire: Wire;
  readonly #options: WireOptions;
  readonly #path: Path;
  readonly #side: 0 | 1;
  readonly #process: Process;
  #waiting: Batch[] = [];
  #flight: Flight[] = [];
  #flightBytes = 0;
  #lastAt: Millis = 0;
  #stalledUntil: Millis = 0;
  #silentUntil: Millis = 0;
  /** The next of the flight is being waited for. */
  #underway = false;
  #ending = false;
  /** The end of this direction is on its way. */
  #ended = false;
  #left = Number.POSITIVE_INFINITY;

  constructor(wire: Wire, options: WireOptions, path: Path, side: 0 | 1) {
    this.wire = wire;
    this.#options = options;
    this.#path = path;
    this.#side = side;
    this.#process = options.processes[side];
    const { random } = options;
    this.maxBatchBytes = random() < 0.3 ? 1_024 + Math.floor(random() * 16_384) : 128 * 1024;
    this.maxBatches = random() < 0.3 ? 1 : 2;
  }

  get #now(): Millis {
    return this.#options.time.now();
  }

  // ---- the carrier

  write(parts: readonly Uint8Array[], bytes: number, taken: () => void): void {
    if (this.closed || this.#ending) return;
    this.#options.written?.(this.#side, parts);
    this.#waiting.push({ parts, bytes, taken });
    this.#pump();
  }

  end(): void {
    if (this.closed || this.#ending) return;
    this.#ending = true;
    this.#pump();
  }

  destroy(): void {
    if (this.closed) return;
    this.abandon();
    this.#process.turn(() => this.onClosed("destroyed"));
  }

  // ---- what befalls it

  /** This end is no more; the other hears of it after some of what is on its way. */
  abandon(): void {
    if (this.closed) return;
    this.#close();
    let keep = Math.floor(this.#options.random() * (this.#flightBytes + 1));
    for (const flight of this.#flight) {
      flight.bytes = flight.bytes?.subarray(0, keep) ?? null;
      keep -= flight.bytes?.length ?? 0;
    }
    this.#depart(null);
  }

  /** Takes nothing and nothing comes out. */
  stall(until: Millis): void {
    this.#stalledUntil = Math.max(this.#stalledUntil, until);
  }

  /** Takes what there is room for, and nothing comes out. */
  silence(until: Millis): void {
    this.#silentUntil = Math.max(this.#silentUntil, until);
  }

  cutAfter(bytes: number): void {
    this.#left = Math.min(this.#left, bytes);
    if (this.#left === 0) this.#cut();
  }

  #cut(): void {
    this.#flight = [];
    this.other?.lose("cut");
    this.#options.time.schedule(this.#now + this.#path.latency, () => this.lose("cut"));
  }

  /** It ends without its user's doing. */
  lose(reason: string): void {
    if (this.closed) return;
    this.#close();
    this.#process.run(() => this.onClosed(reason));
  }

  #close(): void {
    this.closed = true;
    this.#waiting = [];
    this.onGone();
  }

  // ---- bytes on their way

  /** Moves into the kernel what has room there. */
  #pump(): void {
    const { time, random } = this.#options;
    if (this.#stalledUntil > this.#now) {
      if (this.#waiting.length > 0 || this.#ending) time.schedule(this.#stalledUntil, () => this.#pump());
      return;
    }
    while (this.#flightBytes < this.#path.buffer) {
      const batch = this.#waiting.shift();
      if (!batch) break;
      this.#depart(Buffer.concat(batch.parts));
      const delay = random() < 0.8 ? 0 : random() * 3;
      time.schedule(this.#now + delay, () => this.#process.run(() => !this.closed && batch.taken()));
    }
    if (this.#ending && !this.#ended && this.#waiting.length === 0) {
      this.#ended = true;
      this.#depart(null);
    }
  }

  #depart(bytes: Uint8Array | null): void {
    const { latency, speed } = this.#path;
    const length = bytes?.length ?? 0;
    const jitter = this.#options.random() * latency * 0.5;
    this.#lastAt = Math.max(this.#now + latency + jitter, this.#lastAt) + length / speed;
    this.#flight.push({ bytes, at: this.#lastAt });
    this.#flightBytes += length;
    this.#wait();
  }

  #wait(): void {
    const next = this.#flight[0];
    if (!next || this.#underway) return;
    this.#underway = true;
    this.#options.time.schedule(Math.max(next.at, this.#now), () => this.#arrive());
  }

  #arrive(): void {
    const { time, open, processes } = this.#options;
    if (this.wire.vanished) return;
    const until = Math.max(this.#stalledUntil, this.#silentUntil);
    if (until > this.#now || !open(this.#side)) {
      time.schedule(Math.max(until, this.#now + LOOK_AGAIN), () => this.#arrive());
      return;
    }
    processes[1 - this.#side]?.run(() => {
      this.#underway = false;
      this.#hand();
      this.#pump();
      this.#wait();
    });
  }

  /** Hands the next chunk to the other side. */
  #hand(): void {
    const [next] = this.#flight;
    const to = this.other;
    if (!next || !to) return;
    if (next.bytes === null) {
      this.#flight.shift();
      to.lose("the other side ended");
      this.#options.time.schedule(this.#now + this.#path.latency, () => this.lose("ended"));
      return;
    }
    const chunk = this.#chunk(next, next.bytes);
    this.#flightBytes -= chunk.length;
    this.#left -= chunk.length;
    if (chunk.length > 0 && !to.closed) {
      this.#options.arrived?.(this.#side, chunk.length);
      to.onData(chunk);
    }
    if (this.#left === 0) this.#cut();
  }

  #chunk(next: Flight, bytes: Uint8Array): Uint8Array {
    const { random } = this.#options;
    let size = Math.min(bytes.length, this.#left);
    if (size > 1 && random() < this.#path.shred) {
      size = random() < 0.3 ? Math.min(size, 1 + Math.floor(random() * 16)) : 1 + Math.floor(random() * (size - 1));
    }
    const chunk = bytes.subarray(0, size);
    if (size === bytes.length) this.#flight.shift();
    else {
      next.bytes = bytes.subarray(size);
      next.at = this.#now + (random() < 0.5 ? 0 : random() * 2);
    }
    return chunk;
  }
}
