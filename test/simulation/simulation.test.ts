/** Routing and links in a hostile world: many seeds, each replayable. A failure names its seed. */
import { describe, expect, it } from "vitest";
import { simulateSeed } from "./simulate.ts";

/** KAS_SIM_SEEDS: more than the fast loop has time for. */
const SEEDS = Number(process.env.KAS_SIM_SEEDS ?? 50);

describe("routing and links in simulation", () => {
  it(`keeps its invariants over ${SEEDS} seeds of chaos`, { timeout: 600_000 }, async () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const run = await simulateSeed(seed);
      expect(run.violations, `seed ${seed}: node test/simulation/run.ts --seed ${seed} --trace`).toEqual([]);
      expect(run.outcomes.get("done") ?? 0).toBeGreaterThan(0.5 * run.requests);
    }
  });

  it("does the same for the same seed, to the last byte", async () => {
    const first = await simulateSeed(7);

    expect((await simulateSeed(7)).hash).toBe(first.hash);
    expect((await simulateSeed(8)).hash).not.toBe(first.hash);
  });
});
