/**
 * The index of the agents this node is home for, and who waits for whom. An entry is written by its holder only, in the
 * order of the holder's channel; a member that goes takes its entries along. A superseded entry is never handed out.
 * Starts incomplete: until every member told us of a slot, answers name who is missing. State is changed in place.
 */
import type { Actor, Millis } from "./actor.ts";
import type { ChannelMessage } from "./channel.ts";
import { applyDelta, applyDigest, applySnap, dropChannel, putLocal, removeLocal } from "./home-channel.ts";
import type { Home, HomeEffect, HomeMessage, HomeOut, HomeSettings, HomeStep } from "./home-index.ts";
import type { AgentId, NodeId } from "./ids.ts";

const SWEEP = 1_000;

export function createHome(self: NodeId, settings: HomeSettings): Actor<Home, HomeMessage, HomeEffect> {
  return {
    get initial(): Home {
      return {
        self,
        members: new Set(),
        bornAt: 0,
        channels: new Map(),
        agents: new Map(),
        superseded: new Set(),
        watches: new Map(),
        departures: new Map(),
        forgotUntil: Number.NEGATIVE_INFINITY,
        askedAt: new Map(),
      };
    },
    receive(state, message, now) {
      switch (message.type) {
        case "channel":
          return channel(state, message.from, message.message, settings, now, message.wall);
        case "put":
          return [state, putLocal(state, message.entry, now)];
        case "remove":
          return removeLocal(state, message.connection, settings, now, message.wall);
        case "members":
          return setMembers(state, message.self, message.members, settings, now, message.wall);
        case "watch":
          return watch(state, message.agent, message.by, Math.min(message.within, settings.watchFor), now);
        case "doubt":
          for (const held of state.channels.values()) held.verified = held.holder === state.self;
          return [state, []];
        case "sweep":
          return sweep(state, now);
      }
    },
  };
}

function channel(
  state: Home,
  from: NodeId,
  message: ChannelMessage,
  settings: HomeSettings,
  now: Millis,
  wall: number,
): HomeStep {
  if (!state.members.has(from) || from === state.self) return [state, []];
  switch (message.type) {
    case "snap":
      return applySnap(state, from, message, settings, now, wall);
    case "delta":
      return applyDelta(state, from, message, settings, now, wall);
    case "digest":
      return applyDigest(state, from, message, settings, now);
  }
}

function setMembers(
  state: Home,
  self: NodeId,
  members: ReadonlySet<NodeId>,
  settings: HomeSettings,
  now: Millis,
  wall: number,
): HomeStep {
  let next: Home = { ...state, self, members, bornAt: state.bornAt || now };
  for (const holder of [...state.channels.keys()]) {
    if (!members.has(holder) && holder !== self) next = dropChannel(next, holder, settings, now, wall);
  }
  for (const holder of [...state.askedAt.keys()]) if (!members.has(holder)) state.askedAt.delete(holder);
  return [next, []];
}

function watch(state: Home, agent: AgentId, by: NodeId, within: Millis, now: Millis): HomeStep {
  const first = state.watches.size === 0;
  const watchers = state.watches.get(agent) ?? new Map<NodeId, Millis>();
  watchers.set(by, now + within);
  state.watches.set(agent, watchers);
  return [state, first ? [sweepAt(now)] : []];
}

const sweepAt = (now: Millis): HomeOut => ({
  type: "schedule",
  key: "sweep",
  at: now + SWEEP,
  message: { type: "sweep" },
});

function sweep(state: Home, now: Millis): HomeStep {
  for (const [agent, watchers] of state.watches) {
    for (const [by, until] of watchers) if (until <= now) watchers.delete(by);
    if (watchers.size === 0) state.watches.delete(agent);
  }
  return [state, state.watches.size > 0 ? [sweepAt(now)] : []];
}
