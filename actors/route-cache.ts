/**
 * Where agents were found, so that the next request asks nobody. Bounded, least recently used out first. A hint, never
 * the truth: the holder decides. Entries age unless success renews them; while the bus is away they do not age.
 * Changed in place.
 */
import type { Millis } from "./actor.ts";
import type { AgentId, ConnectionId, NodeId } from "./ids.ts";
import { isSameRoute } from "./route.ts";

/** A route whose facts this node keeps current. */
export type KnownRoute = {
  readonly node: NodeId;
  readonly connection: ConnectionId;
  draining: boolean;
  suspect: boolean;
  active: number;
};

export type CachedRoutes = {
  routes: readonly KnownRoute[];
  /** When a home last told us. */
  learntAt: Millis;
  renewedAt: Millis;
};

export type RouteCache = {
  readonly entries: Map<AgentId, CachedRoutes>;
  readonly most: number;
  readonly freshFor: Millis;
};

export const createRouteCache = (most: number, freshFor: Millis): RouteCache => ({
  entries: new Map(),
  most,
  freshFor,
});

/** `ageing` is false while the bus is away. */
export function cached(cache: RouteCache, agent: AgentId, now: Millis, ageing: boolean): CachedRoutes | null {
  const entry = cache.entries.get(agent);
  if (!entry) return null;
  cache.entries.delete(agent);
  if (ageing && now - entry.renewedAt > cache.freshFor) return null;
  cache.entries.set(agent, entry);
  return entry;
}

/** Replaces what is known; a route that stays keeps its count of streams. */
export function learn(cache: RouteCache, agent: AgentId, routes: readonly KnownRoute[], now: Millis): void {
  const old = cache.entries.get(agent)?.routes ?? [];
  cache.entries.delete(agent);
  if (routes.length === 0) return;
  const merged = routes.map((route) => {
    const known = old.find((candidate) => isSameRoute(candidate, route));
    if (!known) return route;
    known.draining = route.draining;
    known.suspect = route.suspect;
    return known;
  });
  cache.entries.set(agent, { routes: merged, learntAt: now, renewedAt: now });
  for (const oldest of cache.entries.keys()) {
    if (cache.entries.size <= cache.most) return;
    cache.entries.delete(oldest);
  }
}

/** A request was accepted over one of its routes. */
export function renew(cache: RouteCache, agent: AgentId, now: Millis): void {
  const entry = cache.entries.get(agent);
  if (entry) entry.renewedAt = now;
}

/** One stream more, or less, over this route. */
export function load(
  cache: RouteCache,
  agent: AgentId,
  route: { readonly node: NodeId; readonly connection: ConnectionId },
  change: 1 | -1,
): void {
  const known = cache.entries.get(agent)?.routes.find((candidate) => isSameRoute(candidate, route));
  if (known) known.active = Math.max(0, known.active + change);
}

/** The route, or with connection 0 every route of the node, led nowhere. */
export function forget(cache: RouteCache, agent: AgentId, node: NodeId, connection: ConnectionId | 0): void {
  const entry = cache.entries.get(agent);
  if (!entry) return;
  entry.routes = entry.routes.filter((r) => r.node !== node || (connection !== 0 && r.connection !== connection));
  if (entry.routes.length === 0) cache.entries.delete(agent);
}

/** Follows a new view: routes over nodes that are gone are forgotten, suspects marked. */
export function follow(cache: RouteCache, stateOf: (node: NodeId) => "alive" | "suspect" | "gone"): void {
  for (const [agent, entry] of cache.entries) {
    for (const route of entry.routes) route.suspect = stateOf(route.node) === "suspect";
    if (entry.routes.every((route) => stateOf(route.node) !== "gone")) continue;
    entry.routes = entry.routes.filter((route) => stateOf(route.node) !== "gone");
    if (entry.routes.length === 0) cache.entries.delete(agent);
  }
}
