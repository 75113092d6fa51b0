import { expect, it } from "vitest";
import { alone, front, type Group, leave, pass, type Seat, sit, turns } from "../../actors/turns.ts";

type Guest = Seat<Guest> & { readonly name: string };
const guest = (name: string): Guest => ({ name, before: null, after: null, bench: null as Group<Guest> | null });

it("gives groups their turns in turn, and streams theirs within a group", () => {
  const all = turns<Guest>();
  for (const name of ["a1", "a2", "b1", "c1", "c2"]) sit(all, guest(name), name[0] ?? "");
  const order = Array.from({ length: 8 }, () => {
    const name = front(all)?.name;
    pass(all);
    return name;
  });
  expect(order).toEqual(["a1", "b1", "c1", "a2", "b1", "c2", "a1", "b1"]);
});

it("gives no turn to a group whose last stream left, and nobody sits twice", () => {
  const all = turns<Guest>();
  const [one, two] = [guest("one"), guest("two")];
  sit(all, one, 1);
  sit(all, one, 1);
  expect(alone(all)).toBe(true);
  sit(all, two, 2);
  expect(alone(all)).toBe(false);
  leave(one);
  leave(one);
  expect([front(all), all.first === all.last]).toEqual([two, true]);
  leave(two);
  expect(front(all)).toBeNull();
  sit(all, one, 1);
  expect(front(all)).toBe(one);
});

it("keeps few of the groups that are empty", () => {
  const all = turns<Guest>();
  for (let key = 0; key < 1_000; key++) {
    const one = guest(`${key}`);
    sit(all, one, key);
    leave(one);
  }
  expect([front(all), all.groups.size]).toEqual([null, 64]);
});
