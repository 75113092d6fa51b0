/** Which agents are asked to connect anew. */
import { describe, expect, it } from "vitest";
import type { ConnectionId } from "../../actors/ids.ts";
import { aged, leaving, type Movable, willing } from "../../actors/moves.ts";

const MINUTE = 60_000;
const agent = (id: number, changes: Partial<Movable> = {}): Movable => ({
  id: id as ConnectionId,
  streams: 0,
  lasting: 0,
  interactive: 0,
  age: MINUTE,
  ...changes,
});
const ids = (agents: readonly Movable[]) => agents.map(({ id }) => id);

describe("of the agents", () => {
  const idle = agent(1);
  const older = agent(2, { age: 2 * MINUTE });
  const busy = agent(3, { streams: 3 });
  const watched = agent(4, { streams: 1, lasting: 1 });
  const watchedLong = agent(5, { streams: 1, lasting: 1, age: 11 * MINUTE });
  const inUse = agent(6, { streams: 1, interactive: 1, age: 100 * MINUTE });
  const all = [inUse, busy, watchedLong, watched, idle, older];

  it("idle ones go first, the longest connected before others, and all when all must", () => {
    expect(ids(leaving(all, 2))).toEqual([2, 1]);
    expect(ids(leaving(all, 10)).toSorted()).toEqual([1, 2, 3, 4, 5, 6]);
    expect(ids(leaving(all, 10)).at(-1)).toBe(3);
  });

  it("those in somebody's hands stay, and those with watches have a rest between two moves", () => {
    expect(ids(willing(all, 10))).toEqual([2, 1, 5, 3]);
  });

  it("the old ones go, each at its own time around the limit, but those in somebody's hands", () => {
    const many = Array.from({ length: 1_000 }, (_, n) => agent(n + 1));
    const at = (age: number) =>
      aged(
        many.map((one) => ({ ...one, age })),
        7_200_000,
        5,
      ).length;
    expect(at(5_390_000)).toBe(0);
    expect(at(7_200_000)).toBeGreaterThan(400);
    expect(at(7_200_000)).toBeLessThan(600);
    expect(at(9_000_000)).toBe(1_000);
    expect(aged([{ ...inUse, age: 1e12 }], MINUTE, 5)).toEqual([]);
  });
});
