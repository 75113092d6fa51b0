/**
 * The routing plane of one node as the rest of kas sees it: membership, ring, registrar, home index and request actors
 * behind one door. It decides; `router.ts` and the holder move bytes. Simulation runs this very code.
 */
import type { Millis } from "../../actors/actor.ts";
import type { Failure } from "../../actors/failure.ts";
import type { AgentId, ConnectionId, NodeId, NodeName, RequestId } from "../../actors/ids.ts";
import type { RouteExplanation } from "./router.ts";

export type LocalConnection = {
  readonly agentId: AgentId;
  readonly instance: string;
  readonly process: string;
  readonly link: number;
  readonly lost: readonly number[];
};

/** What the holder side does when routing says so. */
export interface HolderPort {
  /** A newer generation took over: reset its streams and close it. */
  superseded(connection: ConnectionId): void;
  /** Every home of its slot acknowledged the registration, or 1 s passed. Called once per connection. */
  registered(connection: ConnectionId): void;
}

/** One attempt of a request, numbered from 1, on one node. */
export type Attempt = {
  readonly number: number;
  readonly node: NodeId;
  /** The connection the ingress would like, 0 for any. */
  readonly prefer: ConnectionId | 0;
  readonly exclude: readonly ConnectionId[];
};

/**
 * What a request actor tells the stream it decides for. Exactly one of `fail` and the stream's own end is the last.
 * Either may be called before `request` has returned: a connection held here or a cached route is tried at once.
 */
export interface RequestPort {
  /** Open a stream at `attempt.node` (our own included) and report what becomes of it. */
  attempt(attempt: Attempt): void;
  fail(failure: Failure): void;
}

/** What happened to an attempt, as reported to the request actor. */
export type AttemptOutcome =
  /** ACCEPT, HEAD or CREDIT came: it may have run. */
  | { readonly type: "accepted" }
  /** Some of the answer was handed to the caller: never again. */
  | { readonly type: "delivered" }
  /** The stream ended well. */
  | { readonly type: "done" }
  /** Proof that nothing ran. `dial` when the node could not be reached at all. `connection` when the refuser named itself. */
  | { readonly type: "refused"; readonly failure: Failure; readonly dial: boolean }
  /** Reset or lost without proof. `replayable`: the whole body so far is still in the replay buffer. */
  | { readonly type: "lost"; readonly failure: Failure; readonly replayable: boolean };

export interface RequestControl {
  report(attempt: number, outcome: AttemptOutcome): void;
  /** The caller left. */
  cancel(): void;
}

export type RouteSpec = {
  readonly requestId: RequestId;
  readonly agentId: AgentId;
  readonly acceptWithin: Millis;
  readonly timeLeft: Millis;
  readonly idempotent: boolean;
};

export type Member = {
  readonly node: NodeId;
  readonly state: "joining" | "alive" | "suspect" | "draining";
  /** `host:port` of its private API, "" for a cluster of one. */
  readonly address: string;
  /** Those that take new streams. */
  readonly connections: number;
};

export interface Routing {
  readonly self: NodeId;
  readonly name: NodeName;
  /** Joins: resolves when the join window has passed; rejects with `Failed` when the name is taken. */
  join(): Promise<void>;
  /** Tells the others that we leave; nothing is sent after it resolves. */
  leave(): Promise<void>;
  readonly phase: "joining" | "up" | "draining" | "left";
  drain(): void;
  /** Takes a drain back: on the ring again. */
  stay(): void;
  members(): readonly Member[];
  /** `lost`: no members while NATS is away, but to be dialled on: their link is all that can bring them back. */
  onMembers: (members: readonly Member[], lost: readonly Member[]) => void;
  /** Our own bus: for how long it has been away (0: it is there), and whether a member says over its link that it has one. */
  readonly bus: { readonly awayFor: Millis; readonly othersHaveIt: boolean };
  /** Low 32 bits of the hash of the view. */
  readonly view: number;

  connected(connection: LocalConnection): ConnectionId;
  disconnected(connection: ConnectionId): void;
  /** The agent (or we) asked for streams to go elsewhere: chosen last from now on. */
  drained(connection: ConnectionId): void;
  /** The holder's authority: the connection that shall execute now, or why none can. Counts a stream on it until `released`. */
  take(agentId: AgentId, prefer: ConnectionId | 0, exclude: readonly ConnectionId[]): ConnectionId | Failure;
  released(connection: ConnectionId): void;

  request(spec: RouteSpec, port: RequestPort): RequestControl;
  explain(agentId: AgentId): Promise<RouteExplanation>;

  /** A peer link was heard (`at`, now unless said) or refused (dial failed): evidence for membership. */
  peerHeard(node: NodeId, at?: Millis): void;
  peerRefused(node: NodeId): void;

  /** Sizes for metrics and the leak gate; all but members and entries are 0 when nothing is going on. */
  counts(): {
    readonly members: number;
    readonly entries: number;
    readonly requests: number;
    readonly parked: number;
    readonly watches: number;
    readonly asks: number;
  };
}
