/** The route cache and the choice among routes. */
import { describe, expect, it } from "vitest";
import { backoff } from "../../actors/backoff.ts";
import type { AgentId, ConnectionId, NodeId } from "../../actors/ids.ts";
import { choose } from "../../actors/route.ts";
import { cached, createRouteCache, follow, forget, learn, load, renew } from "../../actors/route-cache.ts";

const one = 1 as AgentId;
const a = "a.1" as NodeId;
const b = "b.1" as NodeId;
const route = (node: NodeId, connection: number, active = 0) => ({
  node,
  connection: connection as ConnectionId,
  draining: false,
  suspect: false,
  active,
});

describe("the route cache", () => {
  it("ages after 30 s unless success renews it, and not at all while the bus is away", () => {
    const cache = createRouteCache(10, 30_000);
    learn(cache, one, [route(a, 1)], 0);
    renew(cache, one, 20_000);
    expect(cached(cache, one, 50_000, true)).not.toBeNull();
    expect(cached(cache, one, 500_000, false)).not.toBeNull();
    expect(cached(cache, one, 50_001, true)).toBeNull();
  });

  it("drops the least recently used beyond its bound", () => {
    const cache = createRouteCache(2, 30_000);
    for (const agent of [1, 2]) learn(cache, agent as AgentId, [route(a, agent)], 0);
    cached(cache, one, 1, true);
    learn(cache, 3 as AgentId, [route(a, 3)], 1);
    expect([...cache.entries.keys()]).toEqual([1, 3]);
  });

  it("keeps the count of streams of a route that is learnt again", () => {
    const cache = createRouteCache(2, 30_000);
    learn(cache, one, [route(a, 1)], 0);
    load(cache, one, route(a, 1), 1);
    learn(cache, one, [route(a, 1), route(b, 1)], 5);
    expect(cached(cache, one, 5, true)?.routes.map((r) => r.active)).toEqual([1, 0]);
  });

  it("forgets one route, all of a node, and those of nodes that are gone", () => {
    const cache = createRouteCache(2, 30_000);
    learn(cache, one, [route(a, 1), route(a, 2), route(b, 1), route(b, 2)], 0);
    forget(cache, one, a, 1 as ConnectionId);
    follow(cache, (node) => (node === b ? "suspect" : "alive"));
    expect(cached(cache, one, 0, true)?.routes.map((r) => r.suspect)).toEqual([false, true, true]);
    forget(cache, one, b, 0);
    expect(cached(cache, one, 0, true)?.routes).toHaveLength(1);
    follow(cache, () => "gone");
    expect(cached(cache, one, 0, true)).toBeNull();
  });
});

describe("choice", () => {
  const anything = () => true;
  it("takes its own node first, then the less busy of two random ones", () => {
    expect(choose([route(b, 1), route(a, 2, 99)], a, anything, 5)?.node).toBe(a);
    const busy = [route(b, 1, 10), route(b, 2, 10), route(b, 3, 0)];
    const picks = Array.from({ length: 300 }, (_, seed) => choose(busy, a, anything, seed * 7919)?.connection);
    expect(picks.filter((connection) => connection === 3).length).toBeGreaterThan(150);
    expect(new Set(picks).size).toBe(3);
  });

  it("finds nothing when nothing is usable", () => {
    expect(choose([route(b, 1), route(b, 2)], a, () => false, 1)).toBeNull();
    expect(choose([], a, anything, 1)).toBeNull();
  });
});

describe("backoff", () => {
  it("doubles up to its bound, between half and all of it", () => {
    expect([0, 1, 2, 9].map((round) => backoff(round, 50, 1_000, 0))).toEqual([25, 50, 100, 500]);
    expect(backoff(9, 50, 1_000, 0.999)).toBeLessThanOrEqual(1_000);
  });
});
