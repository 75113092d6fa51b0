/**
 * Who is alive, as this node believes it: heartbeats, suspicion, incarnations, and the join of this node itself.
 * A member that left or was replaced never comes back under that incarnation. While our own bus is away the view is
 * frozen: nobody falls silent on it, and a member goes only when its peer link is refused or silent for long.
 * `peers` is changed in place; the actor stays deterministic.
 */
import type { Actor, Millis } from "./actor.ts";
import { type Failure, failure } from "./failure.ts";
import { fraction, nextSeed } from "./hash.ts";
import { incarnationOf, type NodeId, type NodeName, nameOf, nodeId } from "./ids.ts";
import { newestOf, remember, replaceOlder } from "./incarnations.ts";
import { introduce, introduced, stranger } from "./introduction.ts";
import { evidence, isDoubtful, linkHeard, sweep, sweepEvery } from "./suspicion.ts";
import {
  type Announced,
  type Heartbeat,
  type Membership,
  type MembershipEffect,
  type MembershipMessage,
  type MembershipOut,
  type MembershipSettings,
  type MembershipStep,
  type Peer,
  type PeerState,
  settle,
} from "./view.ts";

const NEVER = Number.NEGATIVE_INFINITY;
const MIN_BEAT_GAP = 100;

export function createMembership(
  settings: MembershipSettings,
  name: NodeName,
  incarnation: number,
  address: string,
  seed: number,
): Actor<Membership, MembershipMessage, MembershipEffect> {
  const fresh = (): Membership => ({
    self: nodeId(name, incarnation),
    address,
    phase: "new",
    seq: 0,
    seed,
    beatAt: NEVER,
    connections: 0,
    connected: true,
    connectionAt: NEVER,
    alone: false,
    highest: 0,
    sweepAt: 0,
    lateUntil: NEVER,
    isolatedSince: null,
    peers: new Map(),
    gone: new Map(),
    view: { peers: [], homes: [], hash: 0, lost: [] },
  });
  return {
    get initial() {
      return fresh();
    },
    receive(state, message, now) {
      switch (message.type) {
        case "join":
          return state.connected
            ? openWindow({ ...state, phase: "joining" }, settings, now)
            : [{ ...state, phase: "joining" }, []];
        case "alone":
          return windowOver({ ...state, alone: true, phase: "joining" }, now);
        case "window-over":
          return windowOver(state, now);
        case "beat":
          return beat(state, settings, false, now);
        case "sweep":
          return sweep(state, settings, now);
        case "heartbeat":
          return introduce(heard(state, message.from, message.heartbeat, settings, now), message, now);
        case "stale":
          return [{ ...state, highest: Math.max(state.highest, message.incarnation) }, []];
        case "link-heard":
          return linkHeard(state, message.node, settings, message.at ?? now, now);
        case "link-refused":
          return evidence(state, message.node, "refusedAt", settings, now);
        case "unanswered":
          return evidence(state, message.node, "unansweredAt", settings, now);
        case "connection":
          return connection(state, message.connected, settings, now);
        case "introduced":
          return introduced(state, message.peers);
        case "connections":
          return [{ ...state, connections: message.count }, []];
        case "drain":
          return state.phase === "up" ? announce(state, "draining", settings, now) : [state, []];
        case "stay":
          return state.phase === "draining" ? announce(state, "up", settings, now) : [state, []];
        case "leave":
          return leave(state);
      }
    },
  };
}

/** Says hello and listens; the window starts when the messenger is there. */
function openWindow(state: Membership, settings: MembershipSettings, now: Millis): MembershipStep {
  const [next, effects] = beat(state, settings, true, now);
  return [
    { ...next, sweepAt: now + sweepEvery(settings) },
    [
      ...effects,
      { type: "schedule", key: "window", at: now + settings.joinWindow, message: { type: "window-over" } },
      { type: "schedule", key: "sweep", at: now + sweepEvery(settings), message: { type: "sweep" } },
    ],
  ];
}

function windowOver(state: Membership, now: Millis): MembershipStep {
  // Without a bus nobody can have said that our name is taken: the window opens again with it.
  if (state.phase !== "joining" || (!state.connected && !state.alone)) return [state, []];
  const name = nameOf(state.self);
  const self = nodeId(name, Math.max(incarnationOf(state.self), state.highest + 1));
  const [next, effects] = settle({ ...state, self, phase: "up" });
  const told: MembershipOut[] = state.alone ? [] : [beatSoon(next, now)];
  return [next, [{ type: "joined", self }, ...effects, ...told]];
}

function beat(state: Membership, settings: MembershipSettings, hello: boolean, now: Millis): MembershipStep {
  if (state.phase === "new" || state.phase === "left" || state.alone) return [state, []];
  const seed = nextSeed(state.seed);
  // By the clock, so that it goes on rising when this actor had to start from nothing.
  const seq = Math.max(state.seq + 1, Math.floor(now));
  const at = now + settings.heartbeat * (0.9 + 0.2 * fraction(seed));
  return [
    { ...state, seed, seq, beatAt: now },
    [
      { type: "broadcast", heartbeat: heartbeatOf(state, seq, state.phase, hello) },
      { type: "schedule", key: "beat", at, message: { type: "beat" } },
    ],
  ];
}

const heartbeatOf = (state: Membership, seq: number, announced: Announced, hello: boolean): Heartbeat => ({
  seq,
  state: announced,
  hello,
  address: state.address,
  connections: state.connections,
  view: state.view.hash,
  nats: state.connected,
});

const beatSoon = (state: Membership, now: Millis): MembershipOut => ({
  type: "schedule",
  key: "beat",
  at: Math.max(now, state.beatAt + MIN_BEAT_GAP),
  message: { type: "beat" },
});

function heard(
  state: Membership,
  from: NodeId,
  heartbeat: Heartbeat,
  settings: MembershipSettings,
  now: Millis,
): MembershipStep {
  if (from === state.self || state.phase === "new" || state.phase === "left") return [state, []];
  if (nameOf(from) === nameOf(state.self)) return namesake(state, from, heartbeat, now);
  const newest = newestOf(state, from);
  if (incarnationOf(from) <= newest) {
    return [state, heartbeat.state === "joining" ? [{ type: "outdated", to: from, incarnation: newest }] : []];
  }
  if (heartbeat.state !== "joining") replaceOlder(state, from);
  if (heartbeat.state === "left") {
    remember(state.gone, from);
    state.peers.delete(from);
    return settle(state);
  }
  const known = state.peers.get(from);
  if (known && heartbeat.seq <= known.seq) return [state, []];
  state.peers.set(from, peerOf(state, from, known, heartbeat, settings, now));
  const [next, effects] = settle(state);
  return known && !heartbeat.hello ? [next, effects] : [next, [...effects, beatSoon(next, now)]];
}

function peerOf(
  state: Membership,
  node: NodeId,
  known: Peer | undefined,
  heartbeat: Heartbeat,
  settings: MembershipSettings,
  now: Millis,
): Peer {
  const { seq, state: announced, nats, address, connections } = heartbeat;
  const before = known ?? stranger(node, address);
  return {
    ...before,
    state: stateOf(state, known, heartbeat, settings, now),
    seq,
    announced,
    heardAt: nats ? now : before.heardAt,
    linkHeardAt: nats ? before.linkHeardAt : now,
    unansweredAt: NEVER,
    address,
    connections,
  };
}

/** Off the bus it stays what it was, and one we did not know is no home. */
function stateOf(
  state: Membership,
  known: Peer | undefined,
  heartbeat: Heartbeat,
  settings: MembershipSettings,
  now: Millis,
): PeerState {
  const { state: announced, nats } = heartbeat;
  if (announced === "joining" || announced === "draining") return announced;
  if (nats) return known && isDoubtful(known, settings, now) ? "suspect" : "alive";
  if (known && known.state !== "lost") return known.state;
  return state.connected ? "mute" : "alive";
}

/** Somebody else has our name. */
function namesake(state: Membership, from: NodeId, heartbeat: Heartbeat, now: Millis): MembershipStep {
  const newer = incarnationOf(from) > incarnationOf(state.self);
  if (heartbeat.state === "left") return [{ ...state, highest: Math.max(state.highest, incarnationOf(from)) }, []];
  if (state.phase === "joining") {
    if (heartbeat.state === "joining" && !newer) return [state, [beatSoon(state, now)]];
    return [{ ...state, phase: "left" }, [{ type: "refused", failure: nameTaken(from) }]];
  }
  if (newer && heartbeat.state !== "joining") return [{ ...state, phase: "left" }, [{ type: "deposed", by: from }]];
  return [state, [beatSoon(state, now)]];
}

const nameTaken = (by: NodeId): Failure =>
  failure(
    "invalid",
    `This node cannot join the cluster: the name "${nameOf(by)}" is used by a node that is alive (${by}). ` +
      "Give every node its own node.name (in Kubernetes: POD_NAME), or stop the other one",
  );

function connection(state: Membership, connected: boolean, settings: MembershipSettings, now: Millis): MembershipStep {
  if (connected === state.connected) return [state, []];
  const next: Membership = { ...state, connected, connectionAt: now };
  if (!connected || state.phase === "new" || state.phase === "left") return [next, []];
  // What was missed meanwhile says nothing about the others: everybody's silence starts anew.
  for (const peer of state.peers.values()) {
    peer.heardAt = now;
    if (peer.state === "lost") state.peers.delete(peer.node);
  }
  if (state.phase === "joining") return openWindow(next, settings, now);
  const [settled, effects] = settle({ ...next, sweepAt: now + sweepEvery(settings) });
  const [back, beats] = beat(settled, settings, true, now);
  return [back, [...effects, ...beats]];
}

type Announcing = "up" | "draining";

function announce(state: Membership, phase: Announcing, settings: MembershipSettings, now: Millis): MembershipStep {
  const [settled, effects] = settle({ ...state, phase });
  const [next, beats] = beat(settled, settings, false, now);
  return [next, [...effects, ...beats]];
}

function leave(state: Membership): MembershipStep {
  if (state.phase === "new" || state.phase === "left") return [{ ...state, phase: "left" }, []];
  const seq = state.seq + 1;
  return [{ ...state, seq, phase: "left" }, [{ type: "broadcast", heartbeat: heartbeatOf(state, seq, "left", false) }]];
}
