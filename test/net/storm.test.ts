/** What the turnstile of the agent listener makes of a node's agents that all come back at once, at full size. */
import { expect, it } from "vitest";
import type { Millis } from "../../actors/actor.ts";
import { fraction, nextSeed } from "../../actors/hash.ts";
import { Turnstile } from "../../src/net/turnstile.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

/** As agentk's: full jitter, doubling from half a second to 15 s. */
const FIRST: Millis = 500;
const MOST: Millis = 15_000;

/** When each of so many agents of a dead node got in, at nodes that a balancer chooses between. */
function comeBack(agents: number, nodes: number, perSecond: number): Millis[] {
  const clock = new VirtualClock(60_000);
  const died = clock.now();
  const turnstiles = Array.from({ length: nodes }, () => new Turnstile(perSecond, clock));
  const admitted: Millis[] = [];
  let seed = 1;
  const chance = () => {
    seed = nextSeed(seed);
    return fraction(seed);
  };
  const later = (failures: number) => {
    const pause = chance() * Math.min(MOST, FIRST * 2 ** failures);
    clock.schedule(clock.now() + pause, () => {
      const enter = () => admitted.push(clock.now() - died);
      const turnstile = turnstiles[Math.floor(chance() * nodes)];
      if (!turnstile?.pass(enter, () => false)) later(failures + 1);
    });
  };
  for (let agent = 0; agent < agents; agent++) later(0);
  clock.advance(120_000);
  return admitted;
}

function busiestSecond(times: readonly Millis[]): number {
  const sorted = times.toSorted((a, b) => a - b);
  let [from, most] = [0, 0];
  for (const [n, at] of sorted.entries()) {
    while (at - (sorted[from] ?? at) >= 1_000) from++;
    most = Math.max(most, n - from + 1);
  }
  return most;
}

it("lets 5,000 agents of a dead node in at a bounded rate: 15 % in the busiest second at most, all within a minute", () => {
  const times = comeBack(5_000, 2, 100);
  expect(times).toHaveLength(5_000);
  expect(Math.max(...times)).toBeLessThan(60_000);
  expect(busiestSecond(times)).toBeLessThan(0.15 * 5_000);
});

it("makes nobody of a small node wait, nor an agent that comes by itself", () => {
  expect(Math.max(...comeBack(100, 2, 100))).toBeLessThanOrEqual(FIRST);
  expect(Math.max(...comeBack(1, 1, 100))).toBeLessThanOrEqual(FIRST);
});

it("lets all in at once where there is no limit", () => {
  expect(Math.max(...comeBack(5_000, 2, 0))).toBeLessThanOrEqual(FIRST);
});
