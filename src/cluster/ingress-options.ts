/** What the ingress needs of its node, and what it tells its metrics. */
import type { Millis } from "../../actors/actor.ts";
import type { FailureCode } from "../../actors/failure.ts";
import type { AgentId } from "../../actors/ids.ts";
import type { StreamKind } from "../link/messages.ts";
import type { Clock } from "../runtime/clock.ts";
import type { ClosedReason } from "./attempt.ts";
import type { Holder } from "./holder.ts";
import type { Peers } from "./peers.ts";
import type { Routing } from "./routing.ts";

export interface IngressMetrics {
  opened(kind: StreamKind, hop: "local" | "remote"): void;
  closed(kind: StreamKind, hop: "local" | "remote", reason: ClosedReason, bytesIn: number, bytesOut: number): void;
  /** An agent accepted: how long it took and at which attempt. */
  routed(hop: "local" | "remote", took: Millis, attempts: number): void;
  /** The request ended before any agent accepted it. */
  unrouted(code: FailureCode, took: Millis, attempts: number): void;
  /** The holder of this node would not take it; another attempt may follow. */
  refused?(code: FailureCode): void;
}

export type IngressOptions = {
  readonly routing: Routing;
  readonly holder: Holder;
  readonly peers: Peers;
  readonly clock: Clock;
  readonly metrics: IngressMetrics;
  /** False only where it is certain that no such agent exists; Rails is told so at once. */
  readonly mayExist: (agent: AgentId) => boolean;
  /** A user's handler threw where no link can tell whose it was: a bug, to be logged. */
  readonly fault?: (error: unknown) => void;
};
