import { describe, expect, it } from "vitest";
import type { Clock } from "../../src/runtime/clock.ts";
import { EventLoop } from "../../src/telemetry/event-loop.ts";

function handClock() {
  let now = 0;
  let next: (() => void) | null = null;
  const clock: Clock = {
    now: () => now,
    schedule(_at, run) {
      next = run;
      return {
        [Symbol.dispose]: () => {
          next = null;
        },
      };
    },
  };
  return {
    clock,
    /** The loop turns again after `by`. */
    turn(by: number) {
      now += by;
      next?.();
    },
    pending: () => next !== null,
  };
}

describe("the event loop's watch", () => {
  it("finds it alive while it turns, and dead for 10 s once it was stuck for 30 s", () => {
    const { clock, turn, pending } = handClock();
    const loop = new EventLoop(clock);
    for (let i = 0; i < 60; i++) turn(1_000);
    expect(loop.alive()).toBe(true);
    turn(30_999);
    expect(loop.alive()).toBe(true);
    turn(31_000);
    expect(loop.alive()).toBe(false);
    turn(9_999);
    expect(loop.alive()).toBe(false);
    turn(1);
    expect(loop.alive()).toBe(true);
    loop[Symbol.dispose]();
    expect(pending()).toBe(false);
  });

  it("finds it dead when the probe is the first to run after the stall", () => {
    const { clock, turn } = handClock();
    using loop = new EventLoop({ ...clock, schedule: () => ({ [Symbol.dispose]() {} }) });
    turn(31_000);
    expect(loop.alive()).toBe(false);
  });

  it("measures how late it comes", async () => {
    using loop = new EventLoop();
    while (loop.delay(99) < 0.05) {
      for (const start = performance.now(); performance.now() - start < 100; );
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    loop.restart();
    expect(loop.delay(99)).toBeLessThan(0.05);
  });
});
