/**
 * Messages between the routing actors of different nodes. Unreliable on purpose: a message may be lost, late, doubled or
 * overtaken; the protocol is built for that. `bus/` carries it over NATS or in memory, `CTL` frames carry it when NATS is away.
 */
import type { Millis } from "../../actors/actor.ts";
import type { NodeId } from "../../actors/ids.ts";

/** A message of the routing protocol: a tag and positional msgpack values. Unknown tags are ignored by whoever gets them. */
export type WireMessage = { readonly type: string; readonly body: unknown };

export type AskOutcome =
  | { readonly type: "answer"; readonly message: WireMessage }
  /** The bus knows nobody of that name: a hint, not proof. */
  | { readonly type: "no-responders" }
  | { readonly type: "timeout" };

export interface Messenger {
  /** To every node of the cluster, this one excepted. */
  broadcast(message: WireMessage): void;
  send(to: NodeId, message: WireMessage): void;
  /** `settled` is called exactly once, on a later turn. */
  ask(to: NodeId, message: WireMessage, within: Millis, settled: (outcome: AskOutcome) => void): void;
  /** Set once, before the node joins. `reply` is absent where no answer is awaited. */
  onMessage: (from: NodeId, message: WireMessage, reply?: (message: WireMessage) => void) => void;
  /** Is our own NATS there? Always true in memory. */
  readonly connected: boolean;
  /** Can anybody be told anything, over the bus or over a link? */
  readonly reachesOthers: boolean;
  onConnection: (connected: boolean) => void;
}
