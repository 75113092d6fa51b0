/** How agents spread over nodes that each decide for themselves, behind balancers that place them well, badly or not at all. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fraction, nextSeed } from "../../actors/hash.ts";
import type { NodeId } from "../../actors/ids.ts";
import { createRebalance, excess, type Share } from "../../actors/rebalance.ts";
import { simulate } from "../support/simulate.ts";

const SETTINGS = { perSecond: 50, after: 10_000 };
const LOOK = 1_000;

/** Where an agent lands that was on `from`. */
type Balancer = (from: number, counts: readonly number[]) => number;

/** Nodes that hold these many agents and look once a second, each at what the others held a moment before. */
class Nodes {
  readonly counts: number[];
  readonly #sims;
  readonly #balancer: Balancer;
  seconds = 0;
  /** Asked in each second. */
  readonly asked: number[] = [];

  constructor(counts: readonly number[], balancer: Balancer) {
    this.counts = [...counts];
    this.#balancer = balancer;
    this.#sims = counts.map(() => simulate(createRebalance(SETTINGS)));
  }

  run(seconds: number): this {
    for (let second = 0; second < seconds; second++) this.#look();
    return this;
  }

  #look(): void {
    const before = [...this.counts];
    let asked = 0;
    for (const [n, sim] of this.#sims.entries()) {
      const others: Share[] = before.flatMap((connections, m) =>
        m === n ? [] : [{ node: `n${m}.1` as NodeId, connections }],
      );
      sim.advance(LOOK).tell({ type: "look", own: before[n] ?? 0, others });
      for (const { count } of sim.take()) {
        asked += count;
        for (let agent = 0; agent < count; agent++) this.#move(n);
      }
    }
    this.asked.push(asked);
    this.seconds++;
  }

  #move(from: number): void {
    const to = this.#balancer(from, this.counts);
    this.counts[from] = (this.counts[from] ?? 0) - 1;
    this.counts[to] = (this.counts[to] ?? 0) + 1;
  }

  now(n: number): void {
    this.#sims[n]?.tell({ type: "now" });
  }
}

function anywhere(seed = 7): Balancer {
  let dice = seed;
  return (_from, counts) => {
    dice = nextSeed(dice);
    return Math.floor(fraction(dice) * counts.length);
  };
}
const emptiest: Balancer = (_from, counts) => counts.indexOf(Math.min(...counts));
const home: Balancer = (from) => from;
const total = (numbers: readonly number[]) => numbers.reduce((sum, one) => sum + one, 0);

describe("a rebalance", () => {
  it.each([
    ["least connections", emptiest],
    ["random", anywhere()],
  ])("spreads 300 agents over a third node within a minute, at no more than its rate: %s", (_name, balancer) => {
    const nodes = new Nodes([150, 150, 0], balancer).run(60);
    for (const count of nodes.counts) expect(Math.abs(count - 100)).toBeLessThanOrEqual(10);
    expect(Math.max(...nodes.asked)).toBeLessThanOrEqual(SETTINGS.perSecond);
    expect(total(nodes.asked.slice(0, 10))).toBe(0);
  });

  it("spreads 1,000 agents over a fourth node within a minute", () => {
    const nodes = new Nodes([334, 333, 333, 0], anywhere(11)).run(60);
    for (const count of nodes.counts) expect(Math.abs(count - 250)).toBeLessThanOrEqual(25);
    expect(Math.max(...nodes.asked)).toBeLessThanOrEqual(SETTINGS.perSecond);
  });

  it.each([3, 5, 8, 20])("settles with %i nodes, and then asks nobody for an hour", (n) => {
    const nodes = new Nodes([...Array.from({ length: n - 1 }, () => 200), 0], anywhere(n)).run(1_500);
    const settled = total(nodes.asked);
    nodes.run(3_600);
    expect(total(nodes.asked) - settled).toBe(0);
    expect(Math.min(...nodes.counts)).toBeGreaterThan(0.7 * (total(nodes.counts) / n));
  });

  it("ends even from anywhere and never exceeds its rate, where the balancer lets it", () => {
    const counts = fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 2, maxLength: 6 });
    fc.assert(
      fc.property(counts, (before) => {
        const nodes = new Nodes(before, emptiest).run(120);
        const mean = total(before) / before.length;
        expect(total(nodes.counts)).toBe(total(before));
        // A part of the rate for each node, and what a part rounds to.
        expect(Math.max(...nodes.asked)).toBeLessThanOrEqual(SETTINGS.perSecond + before.length);
        for (const count of nodes.counts)
          expect(Math.abs(count - mean)).toBeLessThanOrEqual(Math.max(3, 0.1 * mean + 1));
      }),
      { numRuns: 50 },
    );
  });

  it("asks nobody while the counts are even, or differ by an agent or two", () => {
    expect(total(new Nodes([105, 100, 95], emptiest).run(600).asked)).toBe(0);
    expect(total(new Nodes([2, 0, 0], emptiest).run(600).asked)).toBe(0);
    expect(total(new Nodes([0, 3], home).run(600).asked)).toBe(0);
  });

  it("waits until the excess has lasted", () => {
    const nodes = new Nodes([30, 0], emptiest).run(9);
    nodes.counts[0] = 0;
    nodes.counts[1] = 0;
    nodes.run(1);
    nodes.counts[0] = 30;
    nodes.run(10);
    expect(total(nodes.asked)).toBe(0);
    expect(total(nodes.run(2).asked)).toBeGreaterThan(0);
  });

  it("gives up, for longer each time, on agents that can only come here", () => {
    const nodes = new Nodes([100, 0], home).run(24 * 3_600);
    // Once an hour in the end: half of what it has too many.
    expect(total(nodes.asked)).toBeLessThan(100 * 35);
    expect(total(nodes.asked.slice(-3_600 * 12))).toBeLessThan(100 * 13);
  });

  it("begins anew when a node comes, however long it would have rested", () => {
    const sim = simulate(createRebalance(SETTINGS));
    const look = (...nodes: string[]) => {
      const others = nodes.map((node) => ({ node: node as NodeId, connections: 0 }));
      sim.advance(LOOK).tell({ type: "look", own: 100, others });
      return sim.take().length;
    };
    for (let second = 0; second < 3_000; second++) look("b.1");
    expect(sim.state.phase.type).toBe("resting");
    let asked = 0;
    for (let second = 0; second < 13; second++) asked += look("b.1", "c.1");
    expect(asked).toBeGreaterThan(0);
  });

  it("asks nobody while it cannot know what the others hold", () => {
    const sim = simulate(createRebalance(SETTINGS));
    for (let second = 0; second < 60; second++) sim.advance(LOOK).tell({ type: "look", own: 500, others: null });
    expect(sim.take()).toEqual([]);
    for (let second = 0; second < 60; second++) sim.advance(LOOK).tell({ type: "look", own: 500, others: [] });
    expect(sim.take()).toEqual([]);
  });

  it("told to, begins at once and makes even what it would have left", () => {
    const nodes = new Nodes([105, 95], emptiest);
    nodes.now(0);
    nodes.run(3);
    expect(nodes.counts.every((count) => Math.abs(count - 100) <= 2)).toBe(true);
  });

  it("says how far above the mean a node is", () => {
    const others = [{ node: "b.1" as NodeId, connections: 2 }];
    expect(excess(4, others)).toEqual({ over: 1, mean: 3 });
    expect(excess(4, [])).toEqual({ over: 0, mean: 4 });
  });
});
