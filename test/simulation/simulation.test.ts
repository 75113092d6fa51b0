/** Routing and links in a hostile world: many seeds, each replayable. A failure names its seed. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { simulateSeed } from "./simulate.ts";

/** KAS_SIM_SEEDS: more than the fast loop has time for. */
const SEEDS = process.env.KAS_SIM_SEEDS ?? "50";
const NODE = join("node_modules", ".bin", "node");

describe("routing and links in simulation", () => {
  // In a process of its own: inside the test runner the same takes five times as long.
  it(`keeps its invariants over ${SEEDS} seeds of chaos`, { timeout: 900_000 }, async () => {
    const { stdout } = await promisify(execFile)(NODE, ["test/simulation/run.ts", "--seeds", SEEDS]).catch(
      (failed: { stdout: string }) => failed,
    );
    expect(stdout).toMatch(new RegExp(`^seeds ${SEEDS} requests \\d+ violations 0$`, "m"));
  });

  it("does the same for the same seed, to the last byte", async () => {
    const first = await simulateSeed(7);

    expect((await simulateSeed(7)).hash).toBe(first.hash);
    expect((await simulateSeed(8)).hash).not.toBe(first.hash);
  });
});
