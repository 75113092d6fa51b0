import { expect, it } from "vitest";
import type { AgentId, RequestId } from "../../actors/ids.ts";
import { createRouting } from "../../src/cluster/routing-plane.ts";
import { StreamLimit } from "../../src/cluster/stream-limit.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const [one, two] = [1 as AgentId, 2 as AgentId];

it("takes so many streams for a node and of its callers so many for each agent, and says which limit is full", () => {
  const limit = new StreamLimit(3, 2);
  expect([limit.takeFor(one), limit.takeFor(one)]).toEqual([null, null]);
  expect(limit.takeFor(one)).toMatchObject({
    code: "busy",
    reason: expect.stringContaining("limits.streams_per_agent"),
  });
  expect(limit.take()).toBeNull();
  expect(limit.takeFor(two)).toMatchObject({
    code: "busy",
    reason: expect.stringContaining("limits.streams_per_node"),
  });
  expect(limit.take()).toMatchObject({ code: "busy" });
  expect([limit.count, limit.refusedByNode, limit.refusedByAgent]).toEqual([3, 2, 1]);

  limit.release();
  limit.releaseFor(one);
  expect([limit.takeFor(one), limit.takeFor(one)]).toMatchObject([null, { code: "busy" }]);
  limit.releaseFor(one);
  limit.releaseFor(one);
  expect(limit.count).toBe(0);
});

it("counts on for each of many agents that come and go", () => {
  const limit = new StreamLimit(10_000, 1);
  expect(limit.takeFor(one)).toBeNull();
  for (let id = 2; id < 5_000; id++) {
    expect(limit.takeFor(id as AgentId)).toBeNull();
    limit.releaseFor(id as AgentId);
  }
  expect(limit.takeFor(one)).toMatchObject({ code: "busy" });
  expect(limit.count).toBe(1);
});

it("refuses a caller's request above it at once, whether its agent is connected or not, and takes the next when one ended", async () => {
  const streams = new StreamLimit(2, 2);
  const clock = new VirtualClock();
  const routing = createRouting({
    name: "a" as never,
    incarnation: 1,
    address: "",
    messenger: null,
    clock,
    wallClock: () => 0,
    random: () => 0.5,
    holder: { superseded() {}, registered() {} },
    log() {},
    deposed() {},
    streams,
  });
  const told: string[] = [];
  const ask = (id: string) =>
    routing.request(
      { requestId: id as RequestId, agentId: one, acceptWithin: 1_000, timeLeft: 0, idempotent: true },
      { attempt: () => told.push(`${id} attempt`), fail: ({ code }) => told.push(`${id} ${code}`) },
    );
  const first = ask("first");
  ask("second");
  ask("third");
  expect(told).toEqual(["third busy"]);
  first.cancel();
  ask("fourth");
  expect(streams.count).toBe(2);
  clock.advance(2_000);
  expect(told.map((line) => line.split(" ")[0]).toSorted()).toEqual(["fourth", "second", "third"]);
  expect(streams.count).toBe(0);
});
