/**
 * What carries messages between nodes: publish, subscribe, request. At most once: a message may be lost, nothing is kept
 * for later. No method throws or blocks; what cannot be sent now (not connected, queue full, too large) is dropped and
 * counted. Handlers run on a later turn than the publish.
 */
import type { Millis } from "../../actors/actor.ts";

/** A payload above this is dropped: NATS refuses more than 1 MiB with headers. Split before it. */
export const MAX_PAYLOAD_BYTES = 1_000_000;

/** Requests of one bus that wait for an answer; above it a request ends as `timeout` at once. */
export const MAX_REQUESTS = 10_000;

/** `reply` is "" where no answer is awaited. */
export type Receive = (payload: Uint8Array, reply: string) => void;

export type RequestOutcome =
  | { readonly type: "answer"; readonly payload: Uint8Array }
  /** Nobody subscribes to the subject as far as the bus knows: a hint, not proof. */
  | { readonly type: "no-responders" }
  | { readonly type: "timeout" };

/** `published`, `received`, `dropped` and `reconnects` only grow; `subscriptions` and `requests` are what is open now. */
export type BusCounts = {
  readonly published: number;
  readonly received: number;
  readonly dropped: number;
  readonly reconnects: number;
  readonly subscriptions: number;
  readonly requests: number;
};

export interface Bus extends AsyncDisposable {
  publish(subject: string, payload: Uint8Array, reply?: string): void;
  /** Literal subjects only. Outlives lost connections: it is there again as soon as the bus is. */
  subscribe(subject: string, receive: Receive): Disposable;
  /** `payload` is given the subject the answer will come on. `settled` is called exactly once, on a later turn. */
  request(
    subject: string,
    payload: (reply: string) => Uint8Array,
    within: Millis,
    settled: (outcome: RequestOutcome) => void,
  ): void;
  /** Resolves true once the broker has taken all that was published and subscribed before; false if it did not by then. */
  flush(within: Millis): Promise<boolean>;
  readonly connected: boolean;
  /** Called when `connected` changes. Set once, by the one user of this bus. */
  onConnection: (connected: boolean) => void;
  counts(): BusCounts;
}

/** Tells whoever runs the node what a bus could not report to a caller: lost connections, refused credentials, bugs in handlers. */
export type BusProblem = (message: string, cause?: unknown) => void;
