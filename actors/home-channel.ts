/**
 * How a home index applies what holders tell it. A snapshot replaces, a delta applies only right after what is stored,
 * anything older changes nothing; the stored position is what is acknowledged, and it never goes back.
 */
import type { Millis, Step } from "./actor.ts";
import { type Delta, type Digest, type Entry, entryHash, isAfter, type Snap, supersedes } from "./channel.ts";
import {
  type Channel,
  type Held,
  type Home,
  type HomeOut,
  type HomeSettings,
  type HomeStep,
  routesOf,
} from "./home-index.ts";
import type { AgentId, ConnectionId, NodeId } from "./ids.ts";
import { hasSlot, isSuperset, noSlots, slotOf } from "./ring.ts";

function openChannel(state: Home, holder: NodeId, now: Millis): Channel {
  const known = state.channels.get(holder);
  if (known) return known;
  const position = { epoch: 0, seq: 0 };
  const verified = holder === state.self;
  const fresh = { holder, position, slots: noSlots(), since: now, verified, entries: new Map(), hash: 0, parts: null };
  state.channels.set(holder, fresh);
  return fresh;
}

export function applySnap(
  state: Home,
  from: NodeId,
  snap: Snap,
  settings: HomeSettings,
  now: Millis,
  wall: number,
): HomeStep {
  const channel = openChannel(state, from, now);
  if (!isAfter(snap, channel.position)) return [state, [{ type: "ack", to: from, position: channel.position }]];
  const entries = assemble(channel, snap);
  if (!entries) return [state, []];
  if (!isSuperset(channel.slots, snap.slots)) channel.since = now;
  channel.position = { epoch: snap.epoch, seq: snap.seq };
  channel.slots = snap.slots;
  channel.verified = true;
  const out: HomeOut[] = [{ type: "ack", to: from, position: channel.position }];
  const kept = new Set(entries.map((entry) => entry.connection));
  let next = state;
  for (const connection of [...channel.entries.keys()]) {
    if (!kept.has(connection)) next = remove(next, channel, connection, settings, now, wall);
  }
  for (const entry of entries) put(next, channel, entry, now, out);
  return [next, out];
}

/** All entries once every part of one position is here. */
function assemble(channel: Channel, snap: Snap): readonly Entry[] | null {
  if (snap.parts === 1) {
    channel.parts = null;
    return snap.entries;
  }
  const { parts } = channel;
  if (parts && isAfter(parts.position, snap)) return null;
  const current = parts && !isAfter(snap, parts.position) ? parts : { position: snap, got: new Map() };
  channel.parts = current;
  current.got.set(snap.part, snap.entries);
  if (current.got.size < snap.parts) return null;
  channel.parts = null;
  return [...current.got.values()].flat();
}

export function applyDelta(
  state: Home,
  from: NodeId,
  delta: Delta,
  settings: HomeSettings,
  now: Millis,
  wall: number,
): HomeStep {
  const channel = state.channels.get(from);
  if (!channel || channel.position.epoch !== delta.epoch || channel.position.seq + 1 !== delta.seq) {
    if (channel && !isAfter(delta, channel.position)) {
      return [state, [{ type: "ack", to: from, position: channel.position }]];
    }
    return [state, needSnap(state, from, settings, now)];
  }
  channel.position = { epoch: delta.epoch, seq: delta.seq };
  const out: HomeOut[] = [{ type: "ack", to: from, position: channel.position }];
  let next = state;
  for (const connection of delta.removed) next = remove(next, channel, connection, settings, now, wall);
  for (const entry of delta.put) put(next, channel, entry, now, out);
  return [next, out];
}

export function applyDigest(state: Home, from: NodeId, digest: Digest, settings: HomeSettings, now: Millis): HomeStep {
  const channel = state.channels.get(from);
  if (channel && isAfter(channel.position, digest)) return [state, []];
  const same =
    channel?.position.epoch === digest.epoch &&
    channel.position.seq === digest.seq &&
    channel.entries.size === digest.count &&
    channel.hash >>> 0 === digest.hash;
  if (!channel || !same) return [state, needSnap(state, from, settings, now)];
  channel.verified = true;
  // The holder may not have heard that these are over.
  const superseded: HomeOut[] = [];
  for (const { holder, connection } of state.superseded) {
    if (holder === from) superseded.push({ type: "superseded", holder, connection });
  }
  return [state, superseded];
}

function needSnap(state: Home, to: NodeId, settings: HomeSettings, now: Millis): HomeOut[] {
  if (now - (state.askedAt.get(to) ?? Number.NEGATIVE_INFINITY) < settings.needSnapEvery) return [];
  state.askedAt.set(to, now);
  return [{ type: "need-snap", to }];
}

export function dropChannel(state: Home, holder: NodeId, settings: HomeSettings, now: Millis, wall: number): Home {
  const channel = state.channels.get(holder);
  if (!channel) return state;
  let next = state;
  for (const connection of [...channel.entries.keys()]) next = remove(next, channel, connection, settings, now, wall);
  state.channels.delete(holder);
  return next;
}

/** Our own connections are a channel that is always complete. */
export function putLocal(state: Home, entry: Entry, now: Millis): HomeOut[] {
  const out: HomeOut[] = [];
  put(state, openChannel(state, state.self, now), entry, now, out);
  return out;
}

export function removeLocal(
  state: Home,
  connection: ConnectionId,
  settings: HomeSettings,
  now: Millis,
  wall: number,
): Step<Home, HomeOut> {
  const channel = state.channels.get(state.self);
  return [channel ? remove(state, channel, connection, settings, now, wall) : state, []];
}

function put(state: Home, channel: Channel, entry: Entry, now: Millis, out: HomeOut[]): void {
  const known = channel.entries.get(entry.connection);
  if (known) {
    channel.hash ^= entryHash(known) ^ entryHash(entry);
    Object.assign(known, entry);
    return;
  }
  const head = state.agents.get(entry.agent) ?? null;
  const held = holdOf(entry, channel.holder, head);
  for (let other = head; other; other = other.next) {
    if (!state.superseded.has(other) && supersedes(entry, other)) supersede(state, other, out);
    else if (supersedes(other, entry)) supersede(state, held, out);
  }
  channel.entries.set(entry.connection, held);
  channel.hash ^= entryHash(entry);
  state.agents.set(entry.agent, held);
  state.departures.delete(entry.agent);
  if (!state.superseded.has(held)) notify(state, entry.agent, now, out);
}

function holdOf(entry: Entry, holder: NodeId, next: Held | null): Held {
  const { connection, agent, instance, process, link, lost, since, draining } = entry;
  return { connection, agent, instance, process, link, lost, since, draining, holder, next };
}

function supersede(state: Home, held: Held, out: HomeOut[]): void {
  if (state.superseded.has(held)) return;
  state.superseded.add(held);
  out.push({ type: "superseded", holder: held.holder, connection: held.connection });
}

function notify(state: Home, agent: AgentId, now: Millis, out: HomeOut[]): void {
  const watchers = state.watches.get(agent);
  if (!watchers) return;
  const routes = routesOf(state, agent);
  for (const [to, until] of watchers) if (until > now) out.push({ type: "found", to, agent, routes });
}

function remove(
  state: Home,
  channel: Channel,
  connection: ConnectionId,
  settings: HomeSettings,
  now: Millis,
  wall: number,
): Home {
  const held = channel.entries.get(connection);
  if (!held) return state;
  channel.entries.delete(connection);
  state.superseded.delete(held);
  channel.hash ^= entryHash(held);
  const { agent } = held;
  unlink(state, held);
  // Entries of slots that moved to another home did not depart.
  const ours = channel.holder === state.self || hasSlot(channel.slots, slotOf(agent));
  if (state.agents.has(agent) || !ours) return state;
  state.departures.delete(agent);
  state.departures.set(agent, { at: now, wall, node: channel.holder });
  return forgetOld(state, settings, now);
}

function unlink(state: Home, held: Held): void {
  const head = state.agents.get(held.agent);
  if (head === held) {
    if (held.next) state.agents.set(held.agent, held.next);
    else state.agents.delete(held.agent);
    return;
  }
  for (let before = head ?? null; before; before = before.next) {
    if (before.next === held) before.next = held.next;
  }
}

function forgetOld(state: Home, settings: HomeSettings, now: Millis): Home {
  let { forgotUntil } = state;
  for (const [agent, { at }] of state.departures) {
    const old = now - at >= settings.rememberDepartures;
    if (!old && state.departures.size <= settings.departures) break;
    state.departures.delete(agent);
    if (!old) forgotUntil = Math.max(forgotUntil, at + settings.rememberDepartures);
  }
  return forgotUntil === state.forgotUntil ? state : { ...state, forgotUntil };
}
