/**
 * What the listeners ask of the cluster: carry this request to its agent, wherever that is connected.
 * The router resolves, opens, retries only on proof that nothing ran, and waits for an absent agent until the deadline.
 */
import type { Context } from "@opentelemetry/api";
import type { Millis } from "../../actors/actor.ts";
import type { AgentId, ConnectionId, NodeId } from "../../actors/ids.ts";
import type { Caller, FlatHeaders, StreamClass, StreamKind, Target } from "../link/messages.ts";
import type { Stream, StreamHandler } from "../link/stream.ts";

export type RouteRequest = {
  readonly agentId: AgentId;
  readonly kind: StreamKind;
  readonly target: Target;
  /** Time left to be accepted by an agent; 20,000 when the caller named no deadline. */
  readonly acceptWithin: Millis;
  /** Time left in all; 0: none (watches, upgrades). The router ends the stream with `deadline` when it has passed. */
  readonly timeLeft: Millis;
  /** May run more than once: GET, HEAD, OPTIONS without Upgrade, or gRPC with `kas-idempotent: true`. */
  readonly idempotent: boolean;
  readonly upgrade: boolean;
  readonly class: StreamClass;
  readonly caller: Caller;
  readonly method: string;
  readonly path: string;
  readonly headers: FlatHeaders;
  /** Trace of the caller's request; the router's spans are its children. */
  readonly trace: Context;
};

/**
 * Where a request ran, known once it was accepted; for the access record and `X-Kas-*` headers.
 */
export type Route = {
  readonly node: NodeId;
  readonly connection: ConnectionId;
  readonly hop: "local" | "remote";
  readonly attempts: number;
  /** From `open` to acceptance. */
  readonly took: Millis;
};

export interface RoutedStream extends Stream {
  readonly requestId: string;
  readonly route: Route | null;
}

export interface Router {
  /**
   * Never throws: every failure comes through `handler.reset` (then `closed`), on a later turn, with a reason that is meant for the caller.
   * The body given to `data` is kept for replay until acceptance (at most 64 KiB are let through before it, the rest waits in `queued`).
   */
  open(request: RouteRequest, handler: StreamHandler): RoutedStream;
}

/** One connected agent process, as its holder describes it. */
export type ConnectedAgent = {
  readonly agentId: AgentId;
  readonly node: NodeId;
  readonly connection: ConnectionId;
  readonly name: string;
  readonly projectId: number;
  readonly version: string;
  readonly instance: string;
  readonly transport: "grpc" | "websocket";
  /** Wall clock, ms since 1970. */
  readonly connectedAt: number;
  readonly activeStreams: number;
  readonly services: readonly string[];
};

export type AgentPage = {
  readonly agents: readonly ConnectedAgent[];
  /** "" when there is no further page. */
  readonly nextPageToken: string;
  readonly complete: boolean;
  /** Members that did not answer; not empty iff not complete. */
  readonly missing: readonly NodeId[];
};

export type AgentFilter = { readonly agentIds: readonly AgentId[]; readonly projectIds: readonly number[] };

export type AgentChange =
  | {
      readonly type: "snapshot";
      readonly agents: readonly ConnectedAgent[];
      readonly complete: boolean;
      readonly missing: readonly NodeId[];
    }
  | { readonly type: "connected"; readonly agent: ConnectedAgent }
  | {
      readonly type: "disconnected";
      readonly node: NodeId;
      readonly connection: ConnectionId;
      readonly agentId: AgentId;
    }
  /** Something may have been missed; a new snapshot of the node named follows. */
  | { readonly type: "resync"; readonly node: NodeId; readonly agents: readonly ConnectedAgent[] };

export type RouteExplanation = {
  readonly agentId: AgentId;
  readonly slot: number;
  readonly homes: readonly NodeId[];
  readonly members: readonly { readonly node: NodeId; readonly state: string }[];
  readonly connections: readonly { readonly node: NodeId; readonly connection: ConnectionId; readonly from: string }[];
  readonly missing: readonly NodeId[];
  /** One sentence: what a request sent now would do, and why. */
  readonly verdict: string;
};

/** What is connected, asked of every holder. */
export interface Directory {
  /** At most 1,000 a page; members that do not answer by `within` are named in `missing`. */
  list(filter: AgentFilter, pageSize: number, pageToken: string, within: Millis): Promise<AgentPage>;
  /** Snapshot first, on a later turn; then changes. The reader bounds what it has not passed on, and disposes when it is too slow. */
  watch(filter: AgentFilter, changed: (change: AgentChange) => void): Disposable;
  explain(agentId: AgentId): Promise<RouteExplanation>;
}
