/**
 * When silence means death. A refused link and an inbox nobody reads are proof together; silence alone needs time, more
 * of it while our own loop is late; a link that is heard vetoes it. Frozen, because our bus is away or most members fell
 * silent at once, only links tell: a member goes when its link is refused or silent for long, and comes back with it.
 */
import type { Millis } from "./actor.ts";
import type { NodeId } from "./ids.ts";
import { replaceOlder } from "./incarnations.ts";
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
const LATE_FACTOR = 4;

type Judged = {
  readonly settings: MembershipSettings;
  /** Of patience: more while our own loop is late. */
  readonly factor: number;
  readonly frozen: boolean;
  readonly now: Millis;
};

export const sweepEvery = (settings: MembershipSettings): Millis => settings.heartbeat / 4;

/** A link silent for two heartbeats is chosen last, and vetoes nothing. */
const isQuiet = (peer: Peer, settings: MembershipSettings, now: Millis): boolean =>
  now - peer.linkHeardAt > Math.max(settings.linkQuiet, 2 * settings.heartbeat);

const isRefused = (peer: Peer, settings: MembershipSettings, now: Millis): boolean =>
  now - peer.refusedAt <= settings.proofWithin;

/** No link at all says nothing; one that fell silent or was refused does. */
export const isDoubtful = (peer: Peer, settings: MembershipSettings, now: Millis): boolean =>
  (isQuiet(peer, settings, now) && peer.linkHeardAt !== NEVER) || isRefused(peer, settings, now);

export function sweep(state: Membership, settings: MembershipSettings, now: Millis): MembershipStep {
  if (state.phase === "left") return [state, []];
  const every = sweepEvery(settings);
  const late = now - state.sweepAt;
  const lateUntil = late > settings.lateAfter ? now + settings.lateFor : state.lateUntil;
  const factor = lateUntil > now ? LATE_FACTOR : 1;
  const isolatedSince = isIsolated(state, settings, factor, now) ? (state.isolatedSince ?? now) : null;
  const next: Membership = { ...state, lateUntil, isolatedSince, sweepAt: now + every };
  const again: MembershipOut = { type: "schedule", key: "sweep", at: now + every, message: { type: "sweep" } };
  const judged: Judged = { settings, factor, frozen: isFrozen(next, settings, now), now };
  for (const peer of state.peers.values()) {
    const verdict = judge(peer, judged);
    if (verdict === "gone") state.peers.delete(peer.node);
    else peer.state = verdict;
  }
  const [settled, effects] = settle(next);
  return [settled, [...(late > settings.stalledAfter ? [{ type: "stalled" } as const] : []), ...effects, again]];
}

/** Is it us rather than them? Most members, at least two, fell silent within about one heartbeat. */
function isIsolated(state: Membership, settings: MembershipSettings, factor: number, now: Millis): boolean {
  if (!state.connected) return false;
  let first = Number.POSITIVE_INFINITY;
  let last = NEVER;
  let silent = 0;
  for (const { heardAt, state: peerState } of state.peers.values()) {
    if (peerState === "mute" || now - heardAt <= settings.suspect * factor) continue;
    silent++;
    first = Math.min(first, heardAt);
    last = Math.max(last, heardAt);
  }
  return silent >= 2 && 2 * silent > state.peers.size && last - first <= 1.25 * settings.heartbeat;
}

function isFrozen(state: Membership, settings: MembershipSettings, now: Millis): boolean {
  return !state.connected || (state.isolatedSince !== null && now - state.isolatedSince < settings.isolatedMost);
}

function judge(peer: Peer, judged: Judged): PeerState | "gone" {
  const { settings, factor, frozen, now } = judged;
  if (frozen && peer.state === "lost") return "lost";
  const lost = frozen ? lostFrozen(peer, judged) : lostBySilence(peer, judged);
  if (lost) return lost;
  if (peer.announced === "joining" || peer.announced === "draining") return peer.announced;
  if (isDoubtful(peer, settings, now)) return "suspect";
  const quiet = isQuiet(peer, settings, now);
  if (frozen) return quiet ? peer.state : "alive";
  return quiet && now - peer.heardAt > settings.suspect * factor ? "suspect" : "alive";
}

function lostBySilence(peer: Peer, { settings, factor, now }: Judged): "gone" | "mute" | null {
  if (now - peer.heardAt <= settings.dead * factor) return null;
  return now - peer.linkHeardAt > Math.max(settings.linkDead, settings.dead) ? "gone" : "mute";
}

function lostFrozen(peer: Peer, { settings, factor, now }: Judged): "lost" | "mute" | null {
  if (isRefused(peer, settings, now)) return "lost";
  const deadAfter = Math.max(settings.linkDead, settings.dead * factor);
  if (peer.linkHeardAt !== NEVER && now - peer.linkHeardAt > deadAfter) return "lost";
  return peer.state === "mute" ? "mute" : null;
}

export function linkHeard(
  state: Membership,
  node: NodeId,
  settings: MembershipSettings,
  at: Millis,
  now: Millis,
): MembershipStep {
  const peer = state.peers.get(node);
  if (!peer || at <= peer.linkHeardAt) return [state, []];
  peer.linkHeardAt = at;
  if (at >= peer.refusedAt) peer.refusedAt = NEVER;
  if (peer.state !== "suspect" && peer.state !== "lost") return [state, []];
  peer.state = "suspect";
  const verdict = judge(peer, { settings, factor: 1, frozen: isFrozen(state, settings, now), now });
  if (verdict !== "gone") peer.state = verdict;
  // A stranger that we were told of: only now is it certain that its name has a new process.
  if (verdict !== "gone" && verdict !== "lost") replaceOlder(state, node);
  return settle(state);
}

/** With a frozen view a refused link alone is proof. */
export function evidence(
  state: Membership,
  node: NodeId,
  of: "refusedAt" | "unansweredAt",
  settings: MembershipSettings,
  now: Millis,
): MembershipStep {
  const peer = state.peers.get(node);
  if (!peer) return [state, []];
  peer[of] = now;
  if (of === "refusedAt") peer.linkHeardAt = NEVER;
  const refused = isRefused(peer, settings, now);
  const unanswered = now - peer.unansweredAt <= settings.proofWithin;
  if (refused && isFrozen(state, settings, now)) {
    peer.state = "lost";
    return settle(state);
  }
  if (refused && unanswered) {
    state.peers.delete(node);
    return settle(state);
  }
  return [state, refused ? [{ type: "probe", node }] : []];
}

/** While our bus is away: does a member say over its link that it has one? */
export function othersAreOnBus(state: Membership, settings: MembershipSettings, now: Millis): boolean {
  for (const { heardAt } of state.peers.values()) {
    if (heardAt > state.connectionAt && now - heardAt <= settings.suspect) return true;
  }
  return false;
}
