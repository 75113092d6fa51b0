/** What a node accepts of another's HELLO. */
import { expect, it } from "vitest";
import type { NodeId } from "../../actors/ids.ts";
import { checkPeer, helloOf } from "../../src/kas/greeting.ts";
import type { Hello } from "../../src/link/link.ts";

const us = { cluster: "default", self: "kas-a.1" as NodeId, version: "v1" };
const them = { ...us, self: "kas-b.7" as NodeId };

it("accepts a node of our cluster, dialled or dialling", () => {
  expect(checkPeer(us, helloOf(them, "kas-a"), them.self)).toBeNull();
  expect(checkPeer(us, helloOf(them), null)).toBeNull();
});

it.each([
  ["an agent", { role: "agent" }, null, "protocol"],
  ["a node of another cluster", { cluster: "other" }, null, "protocol"],
  ["one that means another node", { expects: "kas-c" }, null, "protocol"],
  ["another node than the one dialled", {}, "kas-c.1", "node-gone"],
  ["another process of the node dialled", {}, "kas-b.6", "node-gone"],
] satisfies readonly (readonly [string, Partial<Hello>, string | null, string])[])(
  "refuses %s",
  (_, changes, expects, code) => {
    expect(checkPeer(us, { ...helloOf(them), ...changes }, expects as NodeId | null)).toMatchObject({ code });
  },
);

it("names the node, what it expects and for which agent, with a nonce of its own each time", () => {
  const [one, two] = [helloOf(us, "kas-b", "7"), helloOf(us, "kas-b", "7")];
  expect(one).toMatchObject({ name: "kas-a", node: "kas-a.1", role: "kas", expects: "kas-b", instance: "7" });
  expect(one.nonce).not.toBe(two.nonce);
});
