/** Time as a dependency: everything that waits takes a Clock, and tests pass a virtual one. */
import type { Millis } from "../../actors/actor.ts";

export interface Clock {
  /** Monotonic, and meaningful on this node only: the wire carries time left, never a time. */
  now(): Millis;
  /** Calls `run` at `at`, unless the handle is disposed first. */
  schedule(at: Millis, run: () => void): Disposable;
}

/** The real one. Its timers keep no process alive: sockets and listeners do. */
export const systemClock: Clock = {
  now: () => performance.now(),
  schedule(at, run) {
    const timer = setTimeout(run, Math.max(0, at - performance.now()));
    timer.unref();
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
};
