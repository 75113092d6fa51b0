/** The sentences of actors/ring.ts, for any set of names. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { AgentId, NodeName } from "../../actors/ids.ts";
import { buildRing, type Homes, homesOf, type Ring, SLOTS, slotOf, slotsByName } from "../../actors/ring.ts";

const name = fc.stringMatching(/^[a-z0-9-]{1,12}$/).map((text) => text as NodeName);
const names = fc.uniqueArray(name, { minLength: 2, maxLength: 8 });
const runs = { numRuns: 25 };

const numbered = (count: number) => Array.from({ length: count }, (_, i) => `kas-${i}` as NodeName);
const first = (ring: Ring, slot: number) => homesOf(ring, slot)[0];

describe("the ring", () => {
  it("does not depend on the order in which names were heard", () => {
    fc.assert(
      fc.property(names, (set) => {
        expect(buildRing(set.toReversed(), 2).table).toEqual(buildRing(set, 2).table);
      }),
      runs,
    );
  });

  it("moves slots only from the name that leaves, and only to the one that joins", () => {
    fc.assert(
      fc.property(names, ([moved, ...rest]) => {
        if (moved === undefined) return;
        const without = buildRing(rest, 1);
        const all = buildRing([...rest, moved], 1);
        for (let slot = 0; slot < SLOTS; slot++) {
          const home = first(all, slot);
          if (home !== moved) expect(first(without, slot)).toBe(home);
        }
      }),
      runs,
    );
  });

  it("gives every slot distinct homes, as many as there are, up to what is asked", () => {
    fc.assert(
      fc.property(names, fc.constantFrom<Homes>(1, 2, 3, "all"), (set, homes) => {
        const ring = buildRing(set, homes);
        for (let slot = 0; slot < SLOTS; slot += 97) {
          const chosen = homesOf(ring, slot);
          expect(new Set(chosen).size).toBe(Math.min(set.length, homes === "all" ? set.length : homes));
        }
      }),
      runs,
    );
  });

  it("spreads slots so that no node has more than 1.4 times its share", () => {
    for (const count of [3, 5, 10, 20]) {
      const ring = buildRing(numbered(count), 1);
      const load = new Map<string, number>();
      for (let slot = 0; slot < SLOTS; slot++)
        load.set(first(ring, slot) ?? "", (load.get(first(ring, slot) ?? "") ?? 0) + 1);
      expect(Math.max(...load.values())).toBeLessThan((1.4 * SLOTS) / count);
    }
  });

  it("spreads agents with neighbouring ids evenly over slots, small and large", () => {
    for (const base of [0, 2 ** 40]) {
      const used = new Set<number>();
      for (let id = 1; id <= SLOTS; id++) used.add(slotOf((base + id) as AgentId));
      expect(used.size).toBeGreaterThan(0.6 * SLOTS);
    }
  });

  it("is not fooled by names that mean something to objects", () => {
    const odd = ["constructor", "valueof", "0", "1", "tostring"].map((text) => text as NodeName);
    const ring = buildRing(odd, 2);
    expect(new Set(Array.from({ length: SLOTS }, (_, slot) => first(ring, slot)))).toEqual(new Set(odd));
    expect("value" in {}).toBe(false);
  });

  it("lists the slots of each name as the table has them", () => {
    const ring = buildRing(numbered(4), 2);
    const bits = [...slotsByName(ring).values()].flatMap((set) => [...set]);
    let count = 0;
    for (let byte of bits) for (; byte; byte &= byte - 1) count++;
    expect(count).toBe(2 * SLOTS);
  });

  it("is empty for nobody", () => {
    expect(homesOf(buildRing([], 2), 0)).toEqual([]);
  });
});
