/** One run of one seed: the same seed gives the same hash, on any machine. */
import { check } from "./invariants.ts";
import { World } from "./world.ts";

export type Run = {
  readonly seed: number;
  readonly requests: number;
  readonly outcomes: ReadonlyMap<string, number>;
  readonly violations: readonly string[];
  /** Of every message that arrived, every fault and every failure, in order. */
  readonly hash: number;
};

export function simulateSeed(seed: number, trace: ((line: string) => void) | null = null): Run {
  const world = new World(seed, trace);
  world.run();
  check(world);
  const outcomes = new Map<string, number>();
  for (const { ends } of world.requests) {
    const outcome = ends[0]?.outcome ?? "ingress-gone";
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  return { seed, requests: world.requests.length, outcomes, violations: world.violations, hash: world.hash };
}
