/** A name has one process at a time: of two incarnations the newer counts, and an earlier one never comes back. */
import { incarnationOf, type NodeId, type NodeName, nameOf } from "./ids.ts";
import type { Membership } from "./view.ts";

const REMEMBERED = 1_024;

/** The highest incarnation of a name that makes one like `node` void; those that only join make none void. */
export function newestOf(state: Membership, node: NodeId): number {
  let newest = state.gone.get(nameOf(node)) ?? -1;
  for (const peer of state.peers.values()) {
    const other = incarnationOf(peer.node);
    if (other > incarnationOf(node) && peer.announced !== "joining" && nameOf(peer.node) === nameOf(node)) {
      newest = Math.max(newest, other);
    }
  }
  return newest;
}

/** Of a name that has one more process: those before it are void, and stay so. */
export function replaceOlder(state: Membership, by: NodeId): void {
  for (const peer of [...state.peers.values()]) {
    if (nameOf(peer.node) !== nameOf(by) || incarnationOf(peer.node) >= incarnationOf(by)) continue;
    remember(state.gone, peer.node);
    state.peers.delete(peer.node);
  }
}

/** One that left or was replaced. */
export function remember(gone: Map<NodeName, number>, node: NodeId): void {
  const name = nameOf(node);
  const highest = Math.max(gone.get(name) ?? 0, incarnationOf(node));
  gone.delete(name);
  gone.set(name, highest);
  for (const oldest of gone.keys()) {
    if (gone.size <= REMEMBERED) return;
    gone.delete(oldest);
  }
}
