/**
 * The agent links of this node. Only this file opens streams on them, and only on a connection that routing says is live
 * at that instant; whatever it refuses it refuses before anything was sent, so a refusal is proof that nothing ran.
 */
import { Bag } from "../../actors/bag.ts";
import { type Failure, failure } from "../../actors/failure.ts";
import type { AgentId, ConnectionId } from "../../actors/ids.ts";
import { Failed, failed } from "../failed.ts";
import type { Link } from "../link/link.ts";
import type { Open, StreamClass } from "../link/messages.ts";
import type { Reset, Stream, StreamHandler } from "../link/stream.ts";
import { DelegatingHandler } from "./delegating-handler.ts";
import type { AgentChange, ConnectedAgent } from "./router.ts";
import type { HolderPort, LocalConnection, Routing } from "./routing.ts";
import type { RunningStream, RunningStreams } from "./running-stream.ts";

/** What a holder needs of the way to an agent: a link, or whatever carries its streams instead. */
export type AgentLink = Pick<
  Link,
  "open" | "ready" | "drain" | "destroy" | "state" | "streams" | "bufferedBytes" | "roundTrip"
>;

export type Connection = {
  readonly id: ConnectionId;
  readonly agentId: AgentId;
  readonly link: AgentLink;
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

export type HeldStream = RunningStream & { readonly connection: ConnectionId };

export interface Holder {
  readonly port: HolderPort;
  /** Its link is up: tells routing, which may hand out streams on it before this has returned. */
  add(connection: Omit<Connection, "id">, generation: Omit<LocalConnection, "agentId">): ConnectionId;
  remove(id: ConnectionId): void;
  /** Opens on a connection of `open.agentId`. Throws `Failed` when none may take it: nothing was sent. */
  open(
    payload: Uint8Array,
    open: Open,
    handler: StreamHandler,
  ): { readonly stream: Stream; readonly connection: ConnectionId };
  connections(): Iterable<Connection>;
  /** Everything that runs on them, in no order. */
  streams(): RunningStreams<HeldStream>;
  describe(connection: Connection): ConnectedAgent;
  /** Ends every link that came with one of these tokens. */
  revoke(tokens: ReadonlySet<string>): void;
  /** Ends every link; used when this node goes away. */
  destroy(reason: Failure): void;
  onChange: (change: AgentChange) => void;
}

/** What a link ends with whose agent connected anew. */
export const SUPERSEDED = failure("node-gone", "the same agent process, or its successor, connected anew");

export function createHolder(routing: () => Routing): Holder {
  const links = new Map<ConnectionId, Connection>();
  const streams = new Bag<HeldStream>();
  /** Known to routing by an id that we have not been told yet. */
  let arriving: Omit<Connection, "id"> | null = null;
  const linkOf = (id: ConnectionId, agentId: AgentId): AgentLink | null =>
    links.get(id)?.link ?? (arriving?.agentId === agentId ? arriving.link : null);
  const describe = (c: Connection): ConnectedAgent => ({
    agentId: c.agentId,
    node: routing().self,
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
        links.get(id)?.link.destroy(SUPERSEDED);
      },
      registered(id) {
        links.get(id)?.link.ready();
      },
    },
    add(details, generation) {
      arriving = details;
      const id = routing().connected({ ...generation, agentId: details.agentId });
      arriving = null;
      const connection = { ...details, id };
      links.set(id, connection);
      holder.onChange({ type: "connected", agent: describe(connection) });
      return id;
    },
    remove(id) {
      const connection = links.get(id);
      if (!connection) return;
      links.delete(id);
      holder.onChange({ type: "disconnected", node: routing().self, connection: id, agentId: connection.agentId });
    },
    open(payload, open, handler) {
      const taken = routing().take(open.agentId, open.prefer, open.exclude);
      if (typeof taken !== "number") throw new Failed(taken);
      const link = linkOf(taken, open.agentId);
      if (link?.state !== "up") {
        routing().released(taken);
        throw failed("not-owner", `agent ${open.agentId} left this node a moment ago`);
      }
      const counted = new Counted(handler, link, taken, open.class, () => {
        place.remove();
        routing().released(taken);
      });
      const place = streams.add(counted);
      const stream = link.open(payload, counted, open.caller.id);
      counted.stream = stream;
      return { stream, connection: taken };
    },
    connections: () => links.values(),
    streams: () => streams,
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
class Counted extends DelegatingHandler implements HeldStream {
  readonly connection: ConnectionId;
  readonly class: StreamClass;
  stream: Stream | null = null;
  readonly #link: AgentLink;
  readonly #release: () => void;
  #over = false;

  constructor(
    inner: StreamHandler,
    link: AgentLink,
    connection: ConnectionId,
    streamClass: StreamClass,
    release: () => void,
  ) {
    super(inner);
    this.connection = connection;
    this.class = streamClass;
    this.#link = link;
    this.#release = release;
  }

  /** Why a link ended (its agent's token was revoked) is no verdict on the streams it carried. */
  override reset(reset: Reset): void {
    const lost = this.#link.state === "closed";
    super.reset(lost ? { ...reset, failure: failure("node-gone", reset.failure.reason) } : reset);
  }

  cut(reason: Failure): void {
    if (this.#over) return;
    const reset: Reset = { failure: reason, unprocessed: false };
    this.inner.reset(reset);
    this.stream?.reset(reset);
  }

  override closed(): void {
    this.#over = true;
    this.#release();
    super.closed();
  }
}
