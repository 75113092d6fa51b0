/** What a node believes about the others, what membership is told and asks for, and the view that follows from it. */
import type { Millis, Schedule, Step } from "./actor.ts";
import type { Failure } from "./failure.ts";
import { hashText } from "./hash.ts";
import type { NodeId, NodeName } from "./ids.ts";

export type Announced = "joining" | "up" | "draining" | "left";

export type Heartbeat = {
  readonly seq: number;
  readonly state: Announced;
  /** Whoever hears it answers with a heartbeat of its own, now. */
  readonly hello: boolean;
  readonly address: string;
  /** Those that take new streams. */
  readonly connections: number;
  readonly view: number;
  /** The sender is on the bus; when it is not, this came over a link. */
  readonly nats: boolean;
};

export type MembershipSettings = {
  readonly heartbeat: Millis;
  readonly suspect: Millis;
  readonly dead: Millis;
  readonly joinWindow: Millis;
  /** A link silent for this long, at least, is chosen last and vetoes nothing; two pings fit in. */
  readonly linkQuiet: Millis;
  /** A link silent for this long, at least, speaks for its node's death; a lost link is found out within it. */
  readonly linkDead: Millis;
  /** A refused link and an inbox that nobody reads are proof together when they come within this. */
  readonly proofWithin: Millis;
  /** Our own loop is late when it is late by this, and then for `lateFor` in doubt about all that seems silent. */
  readonly lateAfter: Millis;
  readonly lateFor: Millis;
  /** The bus may have cut off who read nothing for so long. */
  readonly stalledAfter: Millis;
  /** Most members, silent on a bus that we are on, are believed dead at last after this. */
  readonly isolatedMost: Millis;
};

/**
 * `mute`: silent on the bus, alive on its peer link; no home, but its connections stay reachable. `lost`: its link failed
 * while the view was frozen; no member, but dialled on, for without the bus nothing else could bring it back.
 */
export type PeerState = "joining" | "alive" | "suspect" | "mute" | "draining" | "lost";

export type Peer = {
  readonly node: NodeId;
  state: PeerState;
  seq: number;
  announced: Announced;
  heardAt: Millis;
  linkHeardAt: Millis;
  refusedAt: Millis;
  unansweredAt: Millis;
  address: string;
  connections: number;
  /** Which two views it was last told of our members for, and when. */
  introduced: number;
  introducedAt: Millis;
};

export type View = {
  readonly peers: readonly { readonly node: NodeId; readonly state: PeerState }[];
  /** Nodes that may be homes, ourselves included when we are up; sorted. */
  readonly homes: readonly NodeId[];
  readonly hash: number;
  /** No members, but to be dialled on; sorted. */
  readonly lost: readonly NodeId[];
};

export type Introduced = { readonly node: NodeId; readonly address: string };

export type Membership = {
  readonly self: NodeId;
  readonly address: string;
  readonly phase: "new" | "joining" | "up" | "draining" | "left";
  readonly seq: number;
  readonly seed: number;
  /** When we last told the others; they are told at most every 100 ms. */
  readonly beatAt: Millis;
  readonly connections: number;
  readonly connected: boolean;
  /** When `connected` last changed. */
  readonly connectionAt: Millis;
  readonly alone: boolean;
  /** Highest incarnation of our own name that others remember. */
  readonly highest: number;
  readonly sweepAt: Millis;
  /** Until then thresholds are wider: our own loop was late. */
  readonly lateUntil: Millis;
  /** Since when most members are silent, all since the same moment: it is likely us. Null: they are not. */
  readonly isolatedSince: Millis | null;
  readonly peers: Map<NodeId, Peer>;
  /** Highest incarnation of each name that left or was replaced; bounded. */
  readonly gone: Map<NodeName, number>;
  readonly view: View;
};

export type MembershipMessage =
  | { readonly type: "join" }
  /** There is no bus and never will be: a cluster of one. */
  | { readonly type: "alone" }
  | { readonly type: "window-over" }
  | { readonly type: "beat" }
  | { readonly type: "sweep" }
  | { readonly type: "heartbeat"; readonly from: NodeId; readonly heartbeat: Heartbeat }
  | { readonly type: "stale"; readonly incarnation: number }
  /** `at`: when its last frame came, now unless said. */
  | { readonly type: "link-heard"; readonly node: NodeId; readonly at?: Millis }
  | { readonly type: "link-refused"; readonly node: NodeId }
  | { readonly type: "unanswered"; readonly node: NodeId }
  | { readonly type: "connection"; readonly connected: boolean }
  | { readonly type: "connections"; readonly count: number }
  /** Members that another node knows. */
  | { readonly type: "introduced"; readonly peers: readonly Introduced[] }
  | { readonly type: "drain" }
  /** The drain is taken back. */
  | { readonly type: "stay" }
  | { readonly type: "leave" };

export type MembershipEffect =
  | { readonly type: "broadcast"; readonly heartbeat: Heartbeat }
  | { readonly type: "viewed"; readonly view: View }
  | { readonly type: "joined"; readonly self: NodeId }
  /** Tell a node that is off the bus whom we know. */
  | { readonly type: "introduce"; readonly to: NodeId; readonly peers: readonly Introduced[] }
  | { readonly type: "refused"; readonly failure: Failure }
  /** A newer process has our name: reset everything and exit. */
  | { readonly type: "deposed"; readonly by: NodeId }
  /** Tell a newcomer that this incarnation of its name is known and gone. */
  | { readonly type: "outdated"; readonly to: NodeId; readonly incarnation: number }
  /** Our loop stood still: messages may have been lost. */
  | { readonly type: "stalled" }
  /** Ask the node for a sign of life: one half of the proof of its death is there. */
  | { readonly type: "probe"; readonly node: NodeId };

export type MembershipOut = MembershipEffect | Schedule<MembershipMessage>;
export type MembershipStep = Step<Membership, MembershipOut>;

/** Tells of a new view if there is one. */
export function settle(state: Membership): MembershipStep {
  const peers = [...state.peers.values()]
    .filter((peer) => peer.state !== "lost")
    .map(({ node, state: peerState }) => ({ node, state: peerState }))
    .sort((a, b) => (a.node < b.node ? -1 : 1));
  const homes = peers.filter(({ state: s }) => s === "alive" || s === "suspect").map(({ node }) => node);
  if (state.phase === "up") homes.push(state.self);
  homes.sort();
  const hash = hashText(homes.join());
  const lost = [...state.peers.values()].flatMap((peer) => (peer.state === "lost" ? [peer.node] : [])).sort();
  const before = state.view;
  const same =
    hash === before.hash &&
    lost.join() === before.lost.join() &&
    peers.length === before.peers.length &&
    peers.every((peer, i) => peer.node === before.peers[i]?.node && peer.state === before.peers[i]?.state);
  if (same) return [state, []];
  const view: View = { peers, homes, hash, lost };
  return [{ ...state, view }, [{ type: "viewed", view }]];
}
