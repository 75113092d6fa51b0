/** What a home keeps and how it is read: entries by channel and by agent, watches, departures. */
import type { Millis, Schedule, Step } from "./actor.ts";
import type { ChannelMessage, Entry, Position } from "./channel.ts";
import type { AgentId, ConnectionId, NodeId } from "./ids.ts";
import { hasSlot, type SlotSet, slotOf } from "./ring.ts";

export type HomeSettings = {
  /** How long a home must have been complete before its "not connected" counts. */
  readonly matureAfter: Millis;
  /** NEEDSNAP at most this often per channel. */
  readonly needSnapEvery: Millis;
  readonly rememberDepartures: Millis;
  readonly departures: number;
  readonly watchFor: Millis;
};

/** An entry in its agent's list, one object because an index holds very many; `next` is another connection of the same agent. */
export type Held = { -readonly [Field in keyof Entry]: Entry[Field] } & {
  readonly holder: NodeId;
  next: Held | null;
};

export type Channel = {
  readonly holder: NodeId;
  position: Position;
  slots: SlotSet;
  /** When `slots` last grew. */
  since: Millis;
  /** Nothing can have been missed since the last snapshot or matching digest. */
  verified: boolean;
  readonly entries: Map<ConnectionId, Held>;
  hash: number;
  parts: { readonly position: Position; readonly got: Map<number, readonly Entry[]> } | null;
};

export type Departure = { readonly at: Millis; readonly wall: number; readonly node: NodeId };

export type Home = {
  readonly self: NodeId;
  readonly members: ReadonlySet<NodeId>;
  readonly bornAt: Millis;
  readonly channels: Map<NodeId, Channel>;
  readonly agents: Map<AgentId, Held>;
  /** Few, and soon gone: their holders close them. */
  readonly superseded: Set<Held>;
  readonly watches: Map<AgentId, Map<NodeId, Millis>>;
  /** Agents without a connection, oldest departure first. */
  readonly departures: Map<AgentId, Departure>;
  /** A departure this young had to be forgotten: until it would have aged, absence proves nothing. */
  readonly forgotUntil: Millis;
  /** When each holder was last asked for a snapshot. */
  readonly askedAt: Map<NodeId, Millis>;
};

export type HomeRoute = { readonly node: NodeId; readonly connection: ConnectionId; readonly draining: boolean };

export type HomeAnswer = {
  readonly routes: readonly HomeRoute[];
  /** Members that have not told us of this slot. */
  readonly missing: readonly NodeId[];
  /** Complete for long enough: absence here is evidence. */
  readonly mature: boolean;
  /** When and where the agent was last connected; `wall` is ms since 1970. */
  readonly seen: { readonly ago: Millis; readonly wall: number; readonly node: NodeId } | null;
};

export type HomeMessage =
  | { readonly type: "channel"; readonly from: NodeId; readonly message: ChannelMessage; readonly wall: number }
  | { readonly type: "put"; readonly entry: Entry }
  | { readonly type: "remove"; readonly connection: ConnectionId; readonly wall: number }
  | { readonly type: "members"; readonly self: NodeId; readonly members: ReadonlySet<NodeId>; readonly wall: number }
  | { readonly type: "watch"; readonly agent: AgentId; readonly by: NodeId; readonly within: Millis }
  /** We may have missed messages: believe no channel until its next digest. */
  | { readonly type: "doubt" }
  | { readonly type: "sweep" };

export type HomeEffect =
  | { readonly type: "ack"; readonly to: NodeId; readonly position: Position }
  | { readonly type: "need-snap"; readonly to: NodeId }
  | { readonly type: "found"; readonly to: NodeId; readonly agent: AgentId; readonly routes: readonly HomeRoute[] }
  | { readonly type: "superseded"; readonly holder: NodeId; readonly connection: ConnectionId };

export type HomeOut = HomeEffect | Schedule<HomeMessage>;
export type HomeStep = Step<Home, HomeOut>;

/** What this home knows of an agent; reads, changes nothing. */
export function ask(state: Home, agent: AgentId, settings: HomeSettings, now: Millis): HomeAnswer {
  const slot = slotOf(agent);
  const missing: NodeId[] = [];
  let since = Math.max(state.bornAt, state.forgotUntil - settings.matureAfter);
  for (const member of state.members) {
    if (member === state.self) continue;
    const known = state.channels.get(member);
    if (known?.verified && hasSlot(known.slots, slot)) since = Math.max(since, known.since);
    else missing.push(member);
  }
  const departure = state.departures.get(agent);
  const seen = departure && { ago: now - departure.at, wall: departure.wall, node: departure.node };
  return {
    routes: routesOf(state, agent),
    missing,
    mature: missing.length === 0 && now - since >= settings.matureAfter,
    seen: seen && seen.ago < settings.rememberDepartures ? seen : null,
  };
}

export function routesOf(state: Home, agent: AgentId): HomeRoute[] {
  const routes: HomeRoute[] = [];
  for (let held = state.agents.get(agent) ?? null; held; held = held.next) {
    if (state.superseded.has(held)) continue;
    routes.push({ node: held.holder, connection: held.connection, draining: held.draining });
  }
  return routes;
}
