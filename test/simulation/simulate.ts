/** One run of one seed: the same seed gives the same hash, on any machine. */
import { check } from "./invariants.ts";
import { stackOf } from "./links.ts";
import { type Tracing, World } from "./world.ts";

export type Run = {
  readonly seed: number;
  readonly requests: number;
  readonly outcomes: ReadonlyMap<string, number>;
  readonly violations: readonly string[];
  /** Bytes that arrived over links. */
  readonly bytes: number;
  readonly executions: number;
  /** Of every message and chunk of bytes that arrived, every fault and what became of every request, in order. */
  readonly hash: number;
};

export async function simulateSeed(seed: number, tracing: Tracing | null = null): Promise<Run> {
  const world = new World(seed, tracing);
  await world.run().then(
    () => check(world),
    (error: unknown) => world.violation(`the run broke off: ${stackOf(error)}`),
  );
  const outcomes = new Map<string, number>();
  for (const { ends } of world.requests) {
    const outcome = ends[0]?.outcome ?? "ingress-gone";
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  const { requests, violations, bytes, hash } = world;
  const executions = requests.reduce((sum, request) => sum + request.executions.length, 0);
  return { seed, requests: requests.length, outcomes, violations, bytes, executions, hash };
}
