/**
 * The connections this node holds, and the authority over them: a stream is given only to a connection that is live and
 * not superseded at that instant, to a draining one only when the agent has no other, and never beyond the agent's limit.
 * State is changed in place.
 */
import type { Actor, Step } from "./actor.ts";
import { type Entry, supersedes } from "./channel.ts";
import { type Failure, failure } from "./failure.ts";
import type { AgentId, ConnectionId, NodeId } from "./ids.ts";

/** Also the route of an ingress on this node: `active` is exact here. */
export type Connection = {
  readonly node: NodeId;
  readonly connection: ConnectionId;
  entry: Entry;
  draining: boolean;
  superseded: boolean;
  readonly suspect: false;
  active: number;
};

export type Connections = {
  readonly byId: Map<ConnectionId, Connection>;
  readonly byAgent: Map<AgentId, readonly Connection[]>;
  /** Those that are neither draining nor superseded. */
  serving: number;
};

export type ConnectionMessage =
  | { readonly type: "connected"; readonly node: NodeId; readonly entry: Entry }
  | { readonly type: "disconnected"; readonly connection: ConnectionId }
  | { readonly type: "drained"; readonly connection: ConnectionId }
  /** A home saw the newer generation on another node. */
  | { readonly type: "superseded"; readonly connection: ConnectionId }
  | {
      readonly type: "take";
      readonly agent: AgentId;
      readonly prefer: ConnectionId | 0;
      readonly exclude: readonly ConnectionId[];
    }
  | { readonly type: "released"; readonly connection: ConnectionId };

export type ConnectionEffect =
  /** Its homes must know of this. */
  | { readonly type: "put"; readonly entry: Entry }
  | { readonly type: "remove"; readonly entry: Entry }
  /** Reset its streams and close it. */
  | { readonly type: "close"; readonly connection: ConnectionId }
  | { readonly type: "taken"; readonly connection: ConnectionId }
  | { readonly type: "refused"; readonly failure: Failure };

type ConnectionStep = Step<Connections, ConnectionEffect>;

export function createConnections(streamsPerAgent: number): Actor<Connections, ConnectionMessage, ConnectionEffect> {
  return {
    get initial(): Connections {
      return { byId: new Map(), byAgent: new Map(), serving: 0 };
    },
    receive(state, message) {
      switch (message.type) {
        case "connected":
          return connected(state, message.node, message.entry);
        case "disconnected":
          return disconnected(state, message.connection);
        case "drained":
          return drained(state, message.connection);
        case "superseded":
          return [state, supersede(state, state.byId.get(message.connection))];
        case "take":
          return take(state, message.agent, message.prefer, message.exclude, streamsPerAgent);
        case "released":
          return released(state, message.connection);
      }
    },
  };
}

function connected(state: Connections, node: NodeId, entry: Entry): ConnectionStep {
  const mine = state.byAgent.get(entry.agent) ?? [];
  const closed = mine.filter((other) => supersedes({ ...entry, since: Number.POSITIVE_INFINITY }, other.entry));
  const { connection, draining } = entry;
  const added: Connection = { node, connection, entry, draining, superseded: false, suspect: false, active: 0 };
  state.byId.set(entry.connection, added);
  if (!draining) state.serving++;
  state.byAgent.set(entry.agent, [...mine, added]);
  return [state, [{ type: "put", entry }, ...closed.flatMap((other) => supersede(state, other))]];
}

function supersede(state: Connections, connection: Connection | undefined): ConnectionEffect[] {
  if (!connection || connection.superseded) return [];
  leaveService(state, connection);
  connection.superseded = true;
  return [
    { type: "remove", entry: connection.entry },
    { type: "close", connection: connection.connection },
  ];
}

function leaveService(state: Connections, { draining, superseded }: Connection): void {
  if (!draining && !superseded) state.serving--;
}

function disconnected(state: Connections, id: ConnectionId): ConnectionStep {
  const connection = state.byId.get(id);
  if (!connection) return [state, []];
  state.byId.delete(id);
  leaveService(state, connection);
  const { agent } = connection.entry;
  const rest = (state.byAgent.get(agent) ?? []).filter((other) => other !== connection);
  if (rest.length > 0) state.byAgent.set(agent, rest);
  else state.byAgent.delete(agent);
  return [state, connection.superseded ? [] : [{ type: "remove", entry: connection.entry }]];
}

function drained(state: Connections, id: ConnectionId): ConnectionStep {
  const connection = state.byId.get(id);
  if (!connection || connection.draining) return [state, []];
  leaveService(state, connection);
  connection.draining = true;
  connection.entry = { ...connection.entry, draining: true };
  return [state, connection.superseded ? [] : [{ type: "put", entry: connection.entry }]];
}

function take(
  state: Connections,
  agent: AgentId,
  prefer: ConnectionId | 0,
  exclude: readonly ConnectionId[],
  limit: number,
): ConnectionStep {
  let active = 0;
  let best: Connection | null = null;
  for (const connection of state.byAgent.get(agent) ?? []) {
    active += connection.active;
    if (connection.superseded || exclude.includes(connection.connection)) continue;
    if (best === null || isBetter(connection, best, prefer)) best = connection;
  }
  if (best === null) return [state, [{ type: "refused", failure: notHere(agent) }]];
  if (active >= limit) return [state, [{ type: "refused", failure: full(agent, limit) }]];
  best.active++;
  return [state, [{ type: "taken", connection: best.connection }]];
}

function isBetter(a: Connection, b: Connection, prefer: ConnectionId | 0): boolean {
  if (a.draining !== b.draining) return b.draining;
  if (a.connection === prefer || b.connection === prefer) return a.connection === prefer;
  return a.active < b.active;
}

function released(state: Connections, id: ConnectionId): ConnectionStep {
  const connection = state.byId.get(id);
  if (connection && connection.active > 0) connection.active--;
  return [state, []];
}

const notHere = (agent: AgentId): Failure =>
  failure("not-owner", `Agent ${agent} has no usable connection on this node any more; it is looked for elsewhere`);

const full = (agent: AgentId, limit: number): Failure =>
  failure(
    "busy",
    `Agent ${agent} has ${limit} of ${limit} streams in use on this node. Try again, or run more agent replicas`,
  );
