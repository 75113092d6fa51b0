/**
 * The connections this node holds, behind synchronous calls. What a call asks for is performed after it, so that whoever
 * hears of a new connection may take it at once.
 */
import type { Entry } from "../../actors/channel.ts";
import {
  type ConnectionEffect,
  type ConnectionMessage,
  type Connections,
  createConnections,
} from "../../actors/connection.ts";
import { type Failure, failure } from "../../actors/failure.ts";
import type { AgentId, ConnectionId, NodeId } from "../../actors/ids.ts";
import type { Route } from "../../actors/route.ts";
import type { Cell } from "../runtime/cell.ts";
import type { System } from "../runtime/system.ts";
import type { LocalConnection } from "./routing.ts";

export type HoldingOptions = {
  readonly system: System;
  readonly streamsPerAgent: number;
  readonly put: (entry: Entry) => void;
  readonly remove: (entry: Entry) => void;
  readonly close: (connection: ConnectionId) => void;
};

const NONE: readonly Route[] = [];

export class Holding {
  readonly #options: HoldingOptions;
  readonly #cell: Cell<Connections, ConnectionMessage, ConnectionEffect>;
  #last = 0;
  #outbox: ConnectionEffect[] = [];
  /** Every connection told to us and not gone: what must be closed when the actor threw. */
  readonly #open = new Map<ConnectionId, Entry>();

  constructor(options: HoldingOptions) {
    this.#options = options;
    this.#cell = options.system.spawn("connections", createConnections(options.streamsPerAgent), {
      perform: (effect) => this.#outbox.push(effect),
      respawned: () => this.#closeAll(),
    });
  }

  /** Connections that take new streams. */
  get serving(): number {
    return this.#cell.state.serving;
  }

  *entries(): Iterable<Entry> {
    for (const { entry, superseded } of this.#cell.state.byId.values()) if (!superseded) yield entry;
  }

  /** Usable routes to the agent. */
  own(agent: AgentId): readonly Route[] {
    const connections = this.#cell.state.byAgent.get(agent);
    if (!connections) return NONE;
    return connections.some((c) => c.superseded) ? connections.filter((c) => !c.superseded) : connections;
  }

  connected(node: NodeId, { agentId, ...generation }: LocalConnection, since: number): ConnectionId {
    const connection = ++this.#last as ConnectionId;
    const entry: Entry = { connection, agent: agentId, ...generation, since, draining: false };
    this.#open.set(connection, entry);
    this.#tell({ type: "connected", node, entry });
    return connection;
  }

  disconnected(connection: ConnectionId): void {
    this.#open.delete(connection);
    this.#tell({ type: "disconnected", connection });
  }

  drained(connection: ConnectionId): void {
    this.#tell({ type: "drained", connection });
  }

  superseded(connection: ConnectionId): void {
    this.#tell({ type: "superseded", connection });
  }

  take(agent: AgentId, prefer: ConnectionId | 0, exclude: readonly ConnectionId[]): ConnectionId | Failure {
    this.#cell.tell({ type: "take", agent, prefer, exclude });
    const effect = this.#outbox.pop();
    if (effect?.type === "taken") return effect.connection;
    return effect?.type === "refused" ? effect.failure : failure("internal", "the connection actor did not answer");
  }

  /** Every connection is reset and closed. */
  closeAll(): void {
    for (const connection of [...this.#open.keys()]) this.superseded(connection);
  }

  released(connection: ConnectionId): void {
    this.#tell({ type: "released", connection });
  }

  #tell(message: ConnectionMessage): void {
    this.#cell.tell(message);
    const effects = this.#outbox;
    if (effects.length === 0) return;
    this.#outbox = [];
    const { put, remove, close } = this.#options;
    for (const effect of effects) {
      if (effect.type === "put") put(effect.entry);
      else if (effect.type === "remove") remove(effect.entry);
      else if (effect.type === "close") close(effect.connection);
    }
  }

  /** The table is empty: no connection may live on outside it. */
  #closeAll(): void {
    this.#outbox = [];
    for (const [connection, entry] of [...this.#open]) {
      this.#options.remove(entry);
      this.#options.close(connection);
    }
  }
}
