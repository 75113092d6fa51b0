/**
 * Nodes that met before the bus went away, and some that did not: who hears over a link that another node is off the bus and
 * sees others than we do tells it whom we know. What it did not know it dials, and takes as a member once it hears the link.
 */
import type { Millis } from "./actor.ts";
import { hashText } from "./hash.ts";
import { incarnationOf, type NodeId, nameOf } from "./ids.ts";
import { type Heartbeat, type Introduced, type Membership, type MembershipStep, type Peer, settle } from "./view.ts";

const NEVER = Number.NEGATIVE_INFINITY;
/** The same is told again only after this: links lose little. */
const AGAIN_AFTER: Millis = 10_000;
/** At once; a node tells of more than it can dial. */
const MOST = 1_024;

type Heard = { readonly from: NodeId; readonly heartbeat: Heartbeat };

/** After a heartbeat was taken: its sender is told whom it may not know. */
export function introduce([state, effects]: MembershipStep, { from, heartbeat }: Heard, now: Millis): MembershipStep {
  const peer = state.peers.get(from);
  if (heartbeat.nats || heartbeat.view === state.view.hash || !peer) return [state, effects];
  const views = hashText(`${heartbeat.view} ${state.view.hash}`);
  if (peer.introduced === views && now - peer.introducedAt < AGAIN_AFTER) return [state, effects];
  const known = [...state.peers.values()].filter((other) => other.node !== from && isUp(other)).slice(0, MOST);
  if (known.length === 0) return [state, effects];
  peer.introduced = views;
  peer.introducedAt = now;
  const peers = known.map(({ node, address }) => ({ node, address }));
  return [state, [...effects, { type: "introduce", to: from, peers }]];
}

const isUp = ({ announced, state, address }: Peer): boolean => announced === "up" && state !== "lost" && address !== "";

/** Strangers count as lost: no members before they are heard, but dialled. With a bus we hear of everybody there. */
export function introduced(state: Membership, peers: readonly Introduced[]): MembershipStep {
  if (state.connected || (state.phase !== "up" && state.phase !== "draining")) return [state, []];
  const strangers = peers.filter(({ node }) => isStranger(state, node));
  for (const { node, address } of strangers) {
    forgetOlder(state, node);
    state.peers.set(node, stranger(node, address));
  }
  return settle(state);
}

function isStranger(state: Membership, node: NodeId): boolean {
  const name = nameOf(node);
  if (name === nameOf(state.self) || incarnationOf(node) <= (state.gone.get(name) ?? -1)) return false;
  for (const known of state.peers.keys()) {
    if (nameOf(known) === name && incarnationOf(known) >= incarnationOf(node)) return false;
  }
  return true;
}

/** A name has one process at a time: where somebody knows the next one, an earlier one that is lost will not come back. */
function forgetOlder(state: Membership, by: NodeId): void {
  for (const { node, state: known } of [...state.peers.values()]) {
    if (known === "lost" && nameOf(node) === nameOf(by)) state.peers.delete(node);
  }
}

/** One of whom we only know where it listens. */
export const stranger = (node: NodeId, address: string): Peer => ({
  node,
  state: "lost",
  seq: -1,
  announced: "up",
  heardAt: NEVER,
  linkHeardAt: NEVER,
  refusedAt: NEVER,
  unansweredAt: NEVER,
  address,
  connections: 0,
  introduced: 0,
  introducedAt: NEVER,
});
