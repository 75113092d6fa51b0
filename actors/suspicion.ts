/**
 * When silence means death. A refused link and an inbox nobody reads are proof together; silence alone needs time, more
 * of it while our own loop is late; a link that is heard vetoes it.
 */
import type { Millis } from "./actor.ts";
import type { NodeId } from "./ids.ts";
import {
  type Membership,
  type MembershipOut,
  type MembershipSettings,
  type MembershipStep,
  type Peer,
  type PeerState,
  settle,
} from "./view.ts";

const NEVER = Number.NEGATIVE_INFINITY;
const LINK_VETO = 1_000;
const PROOF_WINDOW = 2_000;
const LATE = 500;
const LATE_FACTOR = 4;
const LATE_FOR = 10_000;

export const sweepEvery = (settings: MembershipSettings): Millis => settings.heartbeat / 4;

export function sweep(state: Membership, settings: MembershipSettings, now: Millis): MembershipStep {
  if (state.phase === "left") return [state, []];
  const every = sweepEvery(settings);
  const lateUntil = now - state.sweepAt > LATE ? now + LATE_FOR : state.lateUntil;
  const next: Membership = { ...state, lateUntil, sweepAt: now + every };
  const again: MembershipOut = { type: "schedule", key: "sweep", at: now + every, message: { type: "sweep" } };
  if (!state.connected) return [next, [again]];
  const factor = lateUntil > now ? LATE_FACTOR : 1;
  for (const peer of state.peers.values()) {
    const verdict = judge(peer, settings, factor, now);
    if (verdict === "gone") state.peers.delete(peer.node);
    else peer.state = verdict;
  }
  const [settled, effects] = settle(next);
  return [settled, [...effects, again]];
}

function judge(peer: Peer, settings: MembershipSettings, factor: number, now: Millis): PeerState | "gone" {
  const silence = now - peer.heardAt;
  const linkSilence = now - peer.linkHeardAt;
  if (silence > settings.dead * factor) return linkSilence > settings.dead ? "gone" : "mute";
  if (peer.announced === "joining" || peer.announced === "draining") return peer.announced;
  return silence > settings.suspect * factor && linkSilence > LINK_VETO ? "suspect" : "alive";
}

export function linkHeard(state: Membership, node: NodeId, settings: MembershipSettings, now: Millis): MembershipStep {
  const peer = state.peers.get(node);
  if (!peer) return [state, []];
  peer.linkHeardAt = now;
  peer.refusedAt = NEVER;
  if (peer.state !== "suspect" || !state.connected) return [state, []];
  const verdict = judge(peer, settings, 1, now);
  if (verdict !== "gone") peer.state = verdict;
  return settle(state);
}

/** Without our messenger a refused link alone is proof. */
export function evidence(
  state: Membership,
  node: NodeId,
  of: "refusedAt" | "unansweredAt",
  now: Millis,
): MembershipStep {
  const peer = state.peers.get(node);
  if (!peer) return [state, []];
  peer[of] = now;
  if (of === "refusedAt") peer.linkHeardAt = NEVER;
  const refused = now - peer.refusedAt <= PROOF_WINDOW;
  const unanswered = now - peer.unansweredAt <= PROOF_WINDOW;
  if (refused && (unanswered || !state.connected)) {
    state.peers.delete(node);
    return settle(state);
  }
  return [state, refused ? [{ type: "probe", node }] : []];
}
