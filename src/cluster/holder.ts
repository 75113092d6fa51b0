/**
 * The agent links of this node. Only this file opens streams on them, and only on a connection that routing says is live
 * at that instant; whatever it refuses it refuses before anything was sent, so a refusal is proof that nothing ran.
 */
import { type Failure, failure } from "../../actors/failure.ts";
import type { AgentId, ConnectionId, NodeId } from "../../actors/ids.ts";
import { Failed, failed } from "../failed.ts";
import type { Link } from "../link/link.ts";
import type { Open } from "../link/messages.ts";
import type { Stream, StreamHandler } from "../link/stream.ts";
import type { AgentChange, ConnectedAgent } from "./router.ts";
import type { HolderPort, Routing } from "./routing.ts";

export type Connection = {
  readonly id: ConnectionId;
  readonly agentId: AgentId;
  readonly link: Link;
  readonly name: string;
  readonly projectId: number;
  readonly version: string;
  readonly instance: string;
  readonly transport: "grpc" | "websocket";
  readonly connectedAt: number;
  readonly services: readonly string[];
  /** Hash of the token it came with, so that a revoked token ends it. */
  readonly token: string;
};

export interface Holder {
  readonly port: HolderPort;
  add(connection: Connection): void;
  remove(id: ConnectionId): void;
  /** Opens on a connection of `open.agentId`. Throws `Failed` when none may take it: nothing was sent. */
  open(
    payload: Uint8Array,
    open: Open,
    handler: StreamHandler,
  ): { readonly stream: Stream; readonly connection: ConnectionId };
  connections(): Iterable<Connection>;
  describe(connection: Connection): ConnectedAgent;
  /** Ends every link that came with one of these tokens. */
  revoke(tokens: ReadonlySet<string>): void;
  /** Ends every link; used when this node goes away. */
  destroy(reason: Failure): void;
  onChange: (change: AgentChange) => void;
}

export function createHolder(self: NodeId, routing: () => Routing): Holder {
  const links = new Map<ConnectionId, Connection>();
  const describe = (c: Connection): ConnectedAgent => ({
    agentId: c.agentId,
    node: self,
    connection: c.id,
    name: c.name,
    projectId: c.projectId,
    version: c.version,
    instance: c.instance,
    transport: c.transport,
    connectedAt: c.connectedAt,
    activeStreams: c.link.streams,
    services: c.services,
  });

  const holder: Holder = {
    port: {
      superseded(id) {
        links.get(id)?.link.destroy(failure("node-gone", "the same agent process, or its successor, connected anew"));
      },
      registered(id) {
        links.get(id)?.link.ready();
      },
    },
    add(connection) {
      links.set(connection.id, connection);
      holder.onChange({ type: "connected", agent: describe(connection) });
    },
    remove(id) {
      const connection = links.get(id);
      if (!connection) return;
      links.delete(id);
      holder.onChange({ type: "disconnected", node: self, connection: id, agentId: connection.agentId });
    },
    open(payload, open, handler) {
      const taken = routing().take(open.agentId, open.prefer, open.exclude);
      if (typeof taken !== "number") throw new Failed(taken);
      const connection = links.get(taken);
      if (connection?.link.state !== "up") {
        routing().released(taken);
        throw failed("not-owner", `agent ${open.agentId} left this node a moment ago`);
      }
      const stream = connection.link.open(
        payload,
        new Counted(handler, () => routing().released(taken)),
        open.caller.id,
      );
      return { stream, connection: taken };
    },
    connections: () => links.values(),
    describe,
    revoke(tokens) {
      for (const connection of [...links.values()]) {
        if (tokens.has(connection.token)) {
          connection.link.destroy(failure("unauthenticated", "this agent's token was revoked: give it a valid one"));
        }
      }
    },
    destroy(reason) {
      for (const connection of [...links.values()]) connection.link.destroy(reason);
    },
    onChange: () => {},
  };
  return holder;
}

/** Passes everything on and gives the stream's place back when it is over. */
class Counted implements StreamHandler {
  readonly #inner: StreamHandler;
  readonly #release: () => void;

  constructor(inner: StreamHandler, release: () => void) {
    this.#inner = inner;
    this.#release = release;
  }

  accepted() {
    this.#inner.accepted();
  }
  head(payload: Uint8Array) {
    this.#inner.head(payload);
  }
  data(bytes: Uint8Array) {
    this.#inner.data(bytes);
  }
  trailer(payload: Uint8Array) {
    this.#inner.trailer(payload);
  }
  end() {
    this.#inner.end();
  }
  stopped() {
    this.#inner.stopped();
  }
  reset(reset: Parameters<StreamHandler["reset"]>[0]) {
    this.#inner.reset(reset);
  }
  sent(bytes: number) {
    this.#inner.sent(bytes);
  }
  closed() {
    this.#release();
    this.#inner.closed();
  }
}
