/** Who is asked on a real holder: each connection once, those in use not for balance, the old ones for their age. */
import { expect, it } from "vitest";
import type { AgentId } from "../../actors/ids.ts";
import { AgentMoves } from "../../src/kas/agent-moves.ts";
import { StreamCluster } from "../support/stream-cluster.ts";
import type { TestAgent } from "../support/stream-node.ts";
import { accepts, call } from "../support/streams.ts";

async function holding(count: number) {
  const [cluster, kas] = await StreamCluster.of("a");
  if (!kas) throw new RangeError("no node");
  const agents: TestAgent[] = [];
  for (let n = 1; n <= count; n++) agents.push(await kas.agent(n as AgentId, accepts));
  let wall = 0;
  const age = (by: number) => {
    wall += by;
  };
  const moves = new AgentMoves({ holder: kas.holder, routing: kas.node.routing, wallClock: () => wall, seed: 3 });
  const asked = async () => {
    await cluster.pass(200);
    return agents.flatMap(({ events }, n) => (events.includes("drain") ? [n + 1] : []));
  };
  return { cluster, kas, agents, moves, asked, age };
}

it("asks idle agents for balance, never one with an interactive stream, one with a watch only after a rest", async () => {
  const { cluster, kas, moves, asked, age } = await holding(4);
  await using _all = cluster;
  call(kas.router, 1 as AgentId, { class: "interactive", upgrade: true }, null);
  call(kas.router, 2 as AgentId, { class: "watch" });
  await cluster.pass(200);
  expect([moves.spread(1), await asked()]).toEqual([1, [3]]);
  expect([moves.spread(10), await asked()]).toEqual([1, [3, 4]]);
  expect(moves.spread(10)).toBe(0);
  age(600_000);
  expect([moves.spread(10), await asked()]).toEqual([1, [2, 3, 4]]);
  expect(moves.waiting).toBe(1);
  moves.leave(10);
  expect([moves.waiting, await asked()]).toEqual([0, [1, 2, 3, 4]]);
});

it("asks whom it has asked never again, and tells the others that only the rest takes streams", async () => {
  const { cluster, kas, moves } = await holding(3);
  await using _all = cluster;
  const counted = () => kas.node.routing.members()[0]?.connections;
  expect(counted()).toBe(3);
  expect(moves.spread(2)).toBe(2);
  expect([counted(), moves.waiting]).toEqual([1, 1]);
  await kas.agent(9 as AgentId);
  expect([counted(), moves.waiting, moves.spread(10)]).toEqual([2, 2, 2]);
});

it("asks agents of old connections, a few at a time, and none where age is no reason", async () => {
  const { cluster, moves, age } = await holding(10);
  await using _all = cluster;
  age(74_000);
  expect(moves.renew(100_000, 5)).toBe(0);
  age(60_000);
  expect([moves.renew(0, 5), moves.renew(100_000, 5), moves.renew(100_000, 6), moves.renew(100_000, 5)]).toEqual([
    0, 5, 5, 0,
  ]);
});
