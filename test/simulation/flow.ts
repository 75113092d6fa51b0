/** One direction of a body, at its two ends: sending a known pattern under backpressure, and reading at some pace. */
import type { Millis } from "../../actors/actor.ts";
import type { Stream } from "../../src/link/stream.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import { patternAt } from "../support/pattern.ts";

/** A producer that can pause does above this. */
const ENOUGH = 64 * 1024;

export type Outflow = {
  /** Whose bytes: see `pattern.ts`. */
  readonly key: number;
  readonly size: number;
  readonly piece: number;
  /** Between pieces; 0: none. */
  readonly pause: Millis;
};

/** Sends `size` bytes of a pattern, then says so; stops for good when told. */
export class Sending {
  sent = 0;
  readonly #flow: Outflow;
  readonly #clock: Clock;
  readonly #stream: Stream;
  readonly #done: () => void;
  #over = false;
  #pumping = false;
  #pausing: Disposable | null = null;

  constructor(flow: Outflow, clock: Clock, stream: Stream, done: () => void) {
    this.#flow = flow;
    this.#clock = clock;
    this.#stream = stream;
    this.#done = done;
  }

  /** To be called to start, and whenever bytes left. */
  pump(): void {
    if (this.#over || this.#pumping || this.#pausing) return;
    this.#pumping = true;
    const { key, size, piece, pause } = this.#flow;
    while (!this.#over && this.sent < size && this.#stream.queued < ENOUGH) {
      const bytes = patternAt(key, this.sent, Math.min(piece, size - this.sent));
      this.sent += bytes.length;
      this.#stream.data(bytes);
      if (pause > 0 && this.sent < size) {
        this.#pausing = this.#clock.schedule(this.#clock.now() + pause, () => {
          this.#pausing = null;
          this.pump();
        });
        break;
      }
    }
    this.#pumping = false;
    if (this.#over || this.sent < size) return;
    this.stop();
    this.#done();
  }

  stop(): void {
    this.#over = true;
    this.#pausing?.[Symbol.dispose]();
  }
}

/** `eager` gives credit at once, `slow` some every few ms, `pausing` nothing for a while and then all. */
export type Pace = "eager" | "slow" | "pausing";

export class Reading {
  readonly #pace: Pace;
  readonly #clock: Clock;
  readonly #wait: () => Millis;
  readonly #consumed: (bytes: number) => void;
  #owed = 0;
  #paused = false;
  #timer: Disposable | null = null;

  constructor(pace: Pace, clock: Clock, wait: () => Millis, consumed: (bytes: number) => void) {
    this.#pace = pace;
    this.#clock = clock;
    this.#wait = wait;
    this.#consumed = consumed;
  }

  took(bytes: number): void {
    if (this.#pace === "eager" || (this.#pace === "pausing" && this.#paused && !this.#timer)) {
      this.#consumed(bytes);
      return;
    }
    this.#owed += bytes;
    if (!this.#timer) this.#arm();
  }

  stop(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
    this.#owed = 0;
  }

  #arm(): void {
    this.#timer = this.#clock.schedule(this.#clock.now() + this.#wait(), () => {
      this.#timer = null;
      this.#paused = true;
      const bytes = this.#pace === "slow" ? Math.min(this.#owed, 20_000) : this.#owed;
      this.#owed -= bytes;
      this.#consumed(bytes);
      if (this.#owed > 0 && !this.#timer) this.#arm();
    });
  }
}
