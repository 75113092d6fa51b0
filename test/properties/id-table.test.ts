import fc from "fast-check";
import { expect, it } from "vitest";
import { Bag } from "../../actors/bag.ts";
import { IdTable } from "../../actors/id-table.ts";

const ids = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 2 ** 31 - 1 }));
const change = fc.record({ id: ids, away: fc.boolean() });

it("holds what a Map would hold after the same changes", () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 400 }), (changes) => {
      const table = new IdTable<string>();
      const map = new Map<number, string>();
      for (const [i, { id, away }] of changes.entries()) {
        if (away) expect(table.delete(id)).toBe(map.delete(id));
        else {
          table.set(id, `${i}`);
          map.set(id, `${i}`);
        }
        expect(table.get(id)).toBe(map.get(id));
        expect(table.size).toBe(map.size);
      }
      for (const [id, value] of map) expect(table.get(id)).toBe(value);
      expect([...table.values()].sort()).toEqual([...map.values()].sort());
    }),
  );
});

it("follows ids that rise on both sides of a link, 10,000 at once", () => {
  const table = new IdTable<number>();
  let deleted = 0;
  for (let id = 1; id < 200_000; id++) {
    table.set(id, -id);
    if (id > 10_000 && table.delete(id - 10_000)) deleted++;
  }
  expect(deleted).toBe(189_999);
  expect(table.size).toBe(10_000);
  expect([table.get(199_999), table.get(190_000), table.get(189_999)]).toEqual([-199_999, -190_000, undefined]);
  for (let id = 190_000; id < 200_000; id++) table.delete(id);
  expect([table.size, [...table.values()]]).toEqual([0, []]);
});

it("keeps each thing in a bag until its place is given up, once", () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 20 }), { maxLength: 100 }), (turns) => {
      const bag = new Bag<number>();
      const held = new Map<number, ReturnType<typeof bag.add>>();
      for (const turn of turns) {
        const place = held.get(turn);
        held.delete(turn);
        if (place) expect([place.remove(), place.remove()]).toEqual([true, false]);
        else held.set(turn, bag.add(turn));
        expect([...bag].sort((a, b) => a - b)).toEqual([...held.keys()].sort((a, b) => a - b));
        expect(bag.size).toBe(held.size);
      }
    }),
  );
});
