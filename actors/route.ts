/** A way to an agent, and the choice among several: own node first, then the less busy of two, poor ones last. */
import { fraction, nextSeed } from "./hash.ts";
import type { ConnectionId, NodeId } from "./ids.ts";

export type Route = {
  readonly node: NodeId;
  readonly connection: ConnectionId;
  readonly draining: boolean;
  /** Its holder has been silent for a while. */
  readonly suspect: boolean;
  /** Streams on it, as far as this node knows. */
  readonly active: number;
};

export const isSameRoute = (
  a: { readonly node: NodeId; readonly connection: ConnectionId },
  b: { readonly node: NodeId; readonly connection: ConnectionId },
): boolean => a.connection === b.connection && a.node === b.node;

/** Draining or suspect: only while there is nothing better. */
export const isPoor = (route: Route): boolean => route.draining || route.suspect;

/** The best usable route, or null; `seed` is the dice. */
export function choose(
  routes: readonly Route[],
  self: NodeId,
  usable: (route: Route) => boolean,
  seed: number,
): Route | null {
  const [only] = routes;
  if (only && routes.length === 1) return usable(only) ? only : null;
  const all = routes.filter(usable);
  const own = all.filter((route) => route.node === self);
  const pool = own.length > 0 ? own : all;
  const count = pool.length;
  const first = Math.floor(fraction(seed) * count);
  const second = (first + 1 + Math.floor(fraction(nextSeed(seed)) * (count - 1))) % count;
  const a = pool[first];
  const b = pool[second];
  if (!a || !b) return a ?? null;
  return b.active < a.active ? b : a;
}
