/** A clock that moves only when told. Waits of one instant run in the order they were made, each at its own time. */
import type { Millis } from "../../actors/actor.ts";
import type { Clock } from "../../src/runtime/clock.ts";

type Wait = { readonly at: Millis; readonly order: number; run: (() => void) | null };

const isBefore = (a: Wait, b: Wait) => a.at < b.at || (a.at === b.at && a.order < b.order);

/** More waits than any test has at one instant: something arms itself for the moment it is in, and time would stand still. */
const STANDSTILL = 1_000_000;

export class VirtualClock implements Clock {
  #now: Millis;
  #atOnce = 0;
  #order = 0;
  #disposed = 0;
  /** Binary heap, earliest first. */
  readonly #heap: Wait[] = [];

  constructor(now: Millis = 0) {
    this.#now = now;
  }

  now(): Millis {
    return this.#now;
  }

  /** Waits that have neither run nor been disposed. */
  get pending(): number {
    return this.#heap.length - this.#disposed;
  }

  schedule(at: Millis, run: () => void): Disposable {
    const wait: Wait = { at: Math.max(at, this.#now), order: this.#order++, run };
    this.#push(wait);
    return {
      [Symbol.dispose]: () => {
        if (wait.run) this.#disposed++;
        wait.run = null;
      },
    };
  }

  advance(by: Millis): void {
    this.advanceTo(this.#now + by);
  }

  advanceTo(end: Millis): void {
    while (this.#runNext(end));
    this.#now = Math.max(this.#now, end);
  }

  /** As `advance`, and what each wait puts off to a microtask runs before the next wait, as in an event loop. */
  async pass(by: Millis): Promise<void> {
    const end = this.#now + by;
    while (this.#runNext(end)) await null;
    this.#now = Math.max(this.#now, end);
  }

  /** Runs the earliest wait unless it is later than `end`; false when there is none. */
  #runNext(end: Millis): boolean {
    for (let next = this.#heap[0]; next && next.at <= end; next = this.#heap[0]) {
      this.#pop();
      const { run } = next;
      if (!run) {
        this.#disposed--;
        continue;
      }
      next.run = null;
      this.#atOnce = next.at > this.#now ? 0 : this.#atOnce + 1;
      if (this.#atOnce > STANDSTILL) throw new Error(`time stands still at ${next.at} ms: ${run}`);
      this.#now = next.at;
      run();
      return true;
    }
    return false;
  }

  #push(wait: Wait): void {
    const heap = this.#heap;
    let i = heap.push(wait) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      const above = heap[parent];
      if (!above || isBefore(above, wait)) break;
      heap[i] = above;
      i = parent;
    }
    heap[i] = wait;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (!last || heap.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      const left = heap[child];
      if (!left) break;
      const right = heap[child + 1];
      if (right && isBefore(right, left)) child++;
      const smaller = heap[child] ?? left;
      if (isBefore(last, smaller)) break;
      heap[i] = smaller;
      i = child;
    }
    heap[i] = last;
  }
}
