/**
 * Says a thing at once and its repetitions once per 10 s, with their number. Nothing is lost but the copies; above 256
 * different things at a time everything is said.
 */
import type { Clock } from "../runtime/clock.ts";

const WINDOW_MS = 10_000;
const MAX_KEYS = 256;

type Open = { repeated: number; say: (repeated: number) => void; timer: Disposable };

export class Collapse implements Disposable {
  readonly #clock: Clock;
  readonly #open = new Map<string, Open>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** `say` is called with 0 now, or later with the number of repetitions. */
  say(key: string, say: (repeated: number) => void): void {
    const open = this.#open.get(key);
    if (open) {
      open.repeated += 1;
      open.say = say;
      return;
    }
    if (this.#open.size < MAX_KEYS) this.#open.set(key, { repeated: 0, say, timer: this.#after(key) });
    say(0);
  }

  /** Says what is owed. */
  [Symbol.dispose](): void {
    for (const { repeated, say, timer } of this.#open.values()) {
      timer[Symbol.dispose]();
      if (repeated > 0) say(repeated);
    }
    this.#open.clear();
  }

  #after(key: string): Disposable {
    return this.#clock.schedule(this.#clock.now() + WINDOW_MS, () => this.#over(key));
  }

  /** A thing that still happens stays open for another window. */
  #over(key: string): void {
    const open = this.#open.get(key);
    if (!open) return;
    if (open.repeated === 0) {
      this.#open.delete(key);
      return;
    }
    open.say(open.repeated);
    open.repeated = 0;
    open.timer = this.#after(key);
  }
}
