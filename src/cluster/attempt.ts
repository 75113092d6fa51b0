/**
 * What one attempt's stream tells, passed on to its request while that attempt is the current one. It counts the attempt
 * closed exactly once, with one of the reasons of `kas_streams_closed_total`.
 */
import { type Context, type Span, SpanStatusCode } from "@opentelemetry/api";
import type { Millis } from "../../actors/actor.ts";
import { type Failure, type FailureCode, failure } from "../../actors/failure.ts";
import type { ConnectionId, RequestId } from "../../actors/ids.ts";
import type { Open } from "../link/messages.ts";
import type { Reset, StreamHandler } from "../link/stream.ts";
import { mayRetry } from "../status.ts";
import { injectTrace } from "../trace.ts";
import type { RouteRequest } from "./router.ts";
import type { Attempt } from "./routing.ts";

/** `done`: both directions ended in order. */
export type ClosedReason = "done" | FailureCode;

/** The request an attempt belongs to. */
export interface AttemptOwner {
  isCurrent(attempt: number): boolean;
  onAccepted(attempt: AttemptHandler): void;
  /** Where the answer goes, now that its first part came. */
  delivering(attempt: number): StreamHandler;
  onStopped(): void;
  onSent(bytes: number): void;
  onRefused(attempt: number, reset: Reset, dial: boolean): void;
  onLost(attempt: number, reset: Reset): void;
  onDone(attempt: number): void;
  onClosed(attempt: AttemptHandler, reason: ClosedReason): void;
}

export class AttemptHandler implements StreamHandler {
  readonly attempt: Attempt;
  readonly hop: "local" | "remote";
  connection: ConnectionId | 0 = 0;
  bytesIn = 0;
  bytesOut = 0;
  readonly #request: AttemptOwner;
  readonly #span: Span | null;
  #reset: Reset | null = null;
  #cut: FailureCode | null = null;
  #accepted = false;

  constructor(request: AttemptOwner, attempt: Attempt, hop: "local" | "remote", span: Span | null) {
    this.#request = request;
    this.attempt = attempt;
    this.hop = hop;
    this.#span = span;
  }

  get #current(): boolean {
    return this.#request.isCurrent(this.attempt.number);
  }

  #answer(): StreamHandler | null {
    if (!this.#current) return null;
    if (!this.#accepted) this.accepted();
    return this.#request.delivering(this.attempt.number);
  }

  accepted(): void {
    if (this.#accepted || !this.#current) return;
    this.#accepted = true;
    this.#request.onAccepted(this);
  }

  head(payload: Uint8Array): void {
    this.#answer()?.head(payload);
  }

  data(bytes: Uint8Array): void {
    this.bytesIn += bytes.length;
    this.#answer()?.data(bytes);
  }

  trailer(payload: Uint8Array): void {
    this.#answer()?.trailer(payload);
  }

  end(): void {
    this.#answer()?.end();
  }

  stopped(): void {
    if (this.#current) this.#request.onStopped();
  }

  sent(bytes: number): void {
    this.bytesOut += bytes;
    if (this.#current) this.#request.onSent(bytes);
  }

  reset(reset: Reset): void {
    this.#reset = reset;
    if (!this.#current) return;
    if (reset.unprocessed && !this.#accepted) this.#request.onRefused(this.attempt.number, reset, false);
    else this.#request.onLost(this.attempt.number, reset);
  }

  /** Its stream is about to be reset from here; it will hear of no reset. */
  cut(code: FailureCode): void {
    this.#cut = code;
  }

  /** There never was a stream: nothing was counted as opened. */
  unopened(): void {
    this.#span?.setStatus({ code: SpanStatusCode.ERROR }).end();
  }

  closed(): void {
    const current = this.#current;
    const reason = this.#reset?.failure.code ?? this.#cut ?? (current ? "done" : "cancelled");
    if (reason !== "done") this.#span?.setStatus({ code: SpanStatusCode.ERROR, message: reason });
    this.#span?.end();
    this.#request.onClosed(this, reason);
    if (current && !this.#reset) this.#request.onDone(this.attempt.number);
  }
}

/** The OPEN of an attempt; `spent`: how much of the request's time has passed. */
export function openOf(
  { acceptWithin, timeLeft, trace: _, ...request }: RouteRequest,
  requestId: RequestId,
  { prefer, exclude }: Attempt,
  spent: Millis,
  context: Context,
): Open {
  return {
    ...request,
    ...injectTrace(context),
    requestId,
    prefer,
    exclude,
    acceptWithin: Math.max(1, Math.ceil(acceptWithin - spent)),
    timeLeft: timeLeft && Math.max(1, Math.ceil(timeLeft - spent)),
  };
}

/** Without proof these do not say whether it ran. Any other code is the executor's own word and final. */
export const isBroken = (code: FailureCode): boolean => code === "outcome-unknown" || mayRetry(code);

/** Accepted, and the time for the whole answer has passed. */
export function unended({ agentId, timeLeft }: RouteRequest): Failure {
  const within = `${Math.round(timeLeft / 100) / 10} s`;
  const what = `Agent ${agentId} took the request and did not end its answer within ${within}`;
  return failure("deadline", `${what}: it may have executed it. Allow more time`);
}
