/**
 * How late the event loop of this process is: percentiles since they were last read, and whether it was stuck so long
 * that nobody should trust this process.
 */
import { monitorEventLoopDelay } from "node:perf_hooks";
import type { Millis } from "../../actors/actor.ts";
import { type Clock, systemClock } from "../runtime/clock.ts";

const RESOLUTION_MS = 20;
const BEAT_MS = 1_000;
const STUCK_MS = 30_000;
/** A stall that is over is told for this long: long enough for one probe to see it. */
const REMEMBER_MS = 10_000;

export class EventLoop implements Disposable {
  readonly #delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  readonly #clock: Clock;
  #beat: Millis;
  #timer: Disposable;
  #stuckUntil = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
    this.#beat = clock.now();
    this.#delays.enable();
    this.#timer = this.#next();
  }

  /** Seconds the loop came late, since the last call of `restart`. */
  delay(percentile: number): number {
    return Math.max(0, this.#delays.percentile(percentile) / 1e6 - RESOLUTION_MS) / 1_000;
  }

  restart(): void {
    this.#delays.reset();
  }

  /** False while the loop is, or a moment ago was, stuck for 30 s. */
  alive(): boolean {
    this.#look();
    return this.#clock.now() >= this.#stuckUntil;
  }

  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]();
    this.#delays.disable();
  }

  #next(): Disposable {
    return this.#clock.schedule(this.#clock.now() + BEAT_MS, () => {
      this.#look();
      this.#timer = this.#next();
    });
  }

  #look(): void {
    const now = this.#clock.now();
    if (now - this.#beat >= BEAT_MS + STUCK_MS) this.#stuckUntil = now + REMEMBER_MS;
    this.#beat = now;
  }
}
