/**
 * Lets so many enter per second. Those above it wait their turn, in order, at most 2 s; who would wait longer is refused,
 * so at most two seconds' worth ever wait. After a quiet second a whole second's worth may enter at once.
 */
import type { Millis } from "../../actors/actor.ts";
import type { Clock } from "../runtime/clock.ts";

const LONGEST_WAIT: Millis = 2_000;
const BURST: Millis = 1_000;

export class Turnstile implements Disposable {
  readonly #interval: Millis;
  readonly #clock: Clock;
  readonly #waiting = new Set<Disposable>();
  #next = Number.NEGATIVE_INFINITY;

  /** `perSecond` 0: everybody enters at once. */
  constructor(perSecond: number, clock: Clock) {
    this.#interval = perSecond > 0 ? 1_000 / perSecond : 0;
    this.#clock = clock;
  }

  /** Calls `enter` now or on its turn, unless `gone` by then; false: refused, `enter` is never called. */
  pass(enter: () => void, gone: () => boolean): boolean {
    if (this.#interval === 0) {
      enter();
      return true;
    }
    const now = this.#clock.now();
    const turn = Math.max(this.#next, now - BURST + this.#interval);
    if (turn - now > LONGEST_WAIT) return false;
    this.#next = turn + this.#interval;
    if (turn <= now) enter();
    else this.#wait(turn, enter, gone);
    return true;
  }

  #wait(turn: Millis, enter: () => void, gone: () => boolean): void {
    const timer = this.#clock.schedule(turn, () => {
      this.#waiting.delete(timer);
      if (!gone()) enter();
    });
    this.#waiting.add(timer);
  }

  [Symbol.dispose](): void {
    for (const timer of this.#waiting) timer[Symbol.dispose]();
    this.#waiting.clear();
  }
}
