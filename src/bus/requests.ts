/**
 * Requests that wait for their answer: each ends exactly once, by an answer, by "nobody there" or by its deadline.
 * Every request has its own reply subject below one inbox, never used twice.
 */
import type { Millis } from "../../actors/actor.ts";
import type { Clock } from "../runtime/clock.ts";
import { MAX_REQUESTS, type RequestOutcome } from "./bus.ts";

type Waiting = { readonly settled: (outcome: RequestOutcome) => void; readonly timer: Disposable };

export class Requests implements Disposable {
  readonly #inbox: string;
  readonly #clock: Clock;
  readonly #waiting = new Map<string, Waiting>();
  #last = 0;

  constructor(inbox: string, clock: Clock) {
    this.#inbox = inbox;
    this.#clock = clock;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** The reply subject, or "" when too many wait already (`settled` is then called on a later turn). */
  open(within: Millis, settled: (outcome: RequestOutcome) => void): string {
    if (this.#waiting.size >= MAX_REQUESTS) {
      this.#clock.schedule(this.#clock.now(), () => settled({ type: "timeout" }));
      return "";
    }
    this.#last += 1;
    const reply = `${this.#inbox}.${this.#last.toString(36)}`;
    const timer = this.#clock.schedule(this.#clock.now() + within, () => this.settle(reply, { type: "timeout" }));
    this.#waiting.set(reply, { settled, timer });
    return reply;
  }

  /** An outcome for a request that is over already changes nothing. */
  settle(reply: string, outcome: RequestOutcome): void {
    const waiting = this.#waiting.get(reply);
    if (!waiting) return;
    this.#waiting.delete(reply);
    waiting.timer[Symbol.dispose]();
    waiting.settled(outcome);
  }

  [Symbol.dispose](): void {
    for (const reply of [...this.#waiting.keys()]) this.settle(reply, { type: "timeout" });
  }
}
