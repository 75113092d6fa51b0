/**
 * One request at its ingress, as a stream: it does what the request actor decides. At most one attempt is open at a time;
 * until an agent accepted, the body is kept so that the next attempt sends it whole; after the first byte of an answer
 * there is no next attempt. Its user hears exactly one end: `reset` or both directions' end, then `closed`.
 */
import { type Context, type Span, SpanKind, SpanStatusCode } from "@opentelemetry/api";
import type { Millis } from "../../actors/actor.ts";
import { type Failure, type FailureCode, failure } from "../../actors/failure.ts";
import type { ConnectionId, RequestId } from "../../actors/ids.ts";
import type { Link } from "../link/link.ts";
import { encodeOpen, type Open } from "../link/messages.ts";
import type { Reset, Stream, StreamHandler } from "../link/stream.ts";
import { failureOf } from "../status.ts";
import { injectTrace, startChild } from "../trace.ts";
import { AttemptHandler, type AttemptOwner, type ClosedReason } from "./attempt.ts";
import type { IngressOptions } from "./ingress-options.ts";
import type { Route, RoutedStream, RouteRequest } from "./router.ts";
import type { Attempt, RequestControl, RequestPort } from "./routing.ts";

/** Broken on the way, so nobody knows whether it ran. Any other code is the executor's own word and final. */
const BROKEN: ReadonlySet<FailureCode> = new Set(["node-gone", "outcome-unknown"]);
/** Refusals another connection may not share. */
const ELSEWHERE: ReadonlySet<FailureCode> = new Set(["busy", "draining", "not-owner", "node-gone", "agent-offline"]);

export class RoutedRequest implements RoutedStream, RequestPort, AttemptOwner {
  readonly requestId: RequestId;
  route: Route | null = null;
  readonly #options: IngressOptions;
  readonly #request: RouteRequest;
  readonly #handler: StreamHandler;
  readonly #started: Millis;
  readonly #span: Span;
  readonly #trace: Context;
  #control: RequestControl | null = null;
  #starting = true;
  #stream: Stream | null = null;
  #dialling: Disposable | null = null;
  /** Number of the attempt whose events count; those of any other are late. */
  #current = 0;
  #body: Uint8Array[] | null = [];
  #bodyBytes = 0;
  #accepted = false;
  #delivered = false;
  #ended = false;
  #stopped = false;
  #over = false;

  constructor(options: IngressOptions, requestId: RequestId, request: RouteRequest, handler: StreamHandler) {
    this.#options = options;
    this.requestId = requestId;
    this.#request = request;
    this.#handler = handler;
    this.#started = options.clock.now();
    const attributes = { "kas.agent.id": request.agentId };
    const { span, context } = startChild("kas.route", SpanKind.INTERNAL, request.trace, attributes);
    this.#span = span;
    this.#trace = context;
    const { agentId, acceptWithin, timeLeft, idempotent, caller } = request;
    if (caller.kind === "rails" && !options.mayExist(agentId)) {
      this.#early = failure("agent-unknown", `there is no agent ${agentId}: check the id, or register the agent`);
    } else {
      this.#control = options.routing.request({ requestId, agentId, acceptWithin, timeLeft, idempotent }, this);
    }
    this.#starting = false;
    this.#resume();
  }

  // ---- what routing decides

  /** Decided while `routing.request` had not returned yet: done on a later turn, when our user has the stream in hand. */
  #early: Attempt | Failure | null = null;

  #resume(): void {
    const early = this.#early;
    if (!early) return;
    this.#early = null;
    queueMicrotask(() => ("code" in early ? this.fail(early) : this.attempt(early)));
  }

  attempt(attempt: Attempt): void {
    if (this.#over) return;
    if (this.#starting) {
      this.#early = attempt;
      return;
    }
    this.#current = attempt.number;
    if (attempt.node === this.#options.routing.self) this.#openHere(attempt);
    else this.#openThere(attempt);
  }

  fail(reason: Failure): void {
    if (this.#over) return;
    if (this.#starting) {
      this.#early = reason;
      return;
    }
    this.#finish({ failure: reason, unprocessed: false });
  }

  #openHere(attempt: Attempt): void {
    const handler = new AttemptHandler(this, attempt, "local", null);
    try {
      const open = this.#open(attempt, this.#trace);
      const { stream, connection } = this.#options.holder.open(encodeOpen(open), open, handler);
      handler.connection = connection;
      this.#begin(handler, stream);
    } catch (error) {
      this.onRefused(attempt.number, { failure: failureOf(error), unprocessed: true }, false);
    }
  }

  #openThere(attempt: Attempt): void {
    this.#dialling = this.#options.peers.use(attempt.node, (link) => {
      this.#dialling = null;
      if (!this.isCurrent(attempt.number)) return;
      if ("code" in link) this.onRefused(attempt.number, { failure: link, unprocessed: true }, true);
      else this.#openOver(link, attempt);
    });
  }

  #openOver(link: Link, attempt: Attempt): void {
    const attributes = { "kas.node.id": attempt.node };
    const { span, context } = startChild("kas.peer.open", SpanKind.CLIENT, this.#trace, attributes);
    const handler = new AttemptHandler(this, attempt, "remote", span);
    try {
      const open = this.#open(attempt, context);
      this.#begin(handler, link.open(encodeOpen(open), handler, this.#request.agentId));
    } catch (error) {
      span.end();
      this.onRefused(attempt.number, { failure: failureOf(error), unprocessed: true }, false);
    }
  }

  #open(attempt: Attempt, context: Context): Open {
    const { acceptWithin, timeLeft, trace: _, ...request } = this.#request;
    const spent = this.#options.clock.now() - this.#started;
    return {
      ...request,
      ...injectTrace(context),
      requestId: this.requestId,
      prefer: attempt.prefer,
      exclude: attempt.exclude,
      acceptWithin: Math.max(1, Math.ceil(acceptWithin - spent)),
      timeLeft: timeLeft && Math.max(1, Math.ceil(timeLeft - spent)),
    };
  }

  #begin(handler: AttemptHandler, stream: Stream): void {
    this.#options.metrics.opened(this.#request.kind, handler.hop);
    this.#stream = stream;
    for (const bytes of this.#body ?? []) stream.data(bytes);
    if (this.#stopped) stream.stop();
    if (this.#ended) stream.end();
  }

  // ---- what becomes of the attempt, told by its handler

  isCurrent(attempt: number): boolean {
    return !this.#over && this.#current === attempt;
  }

  onAccepted({ attempt, hop, connection }: AttemptHandler): void {
    this.#accepted = true;
    this.#body = null;
    const took = this.#options.clock.now() - this.#started;
    const where = connection || (attempt.prefer as ConnectionId);
    this.route = { node: attempt.node, connection: where, hop, attempts: attempt.number, took };
    this.#options.metrics.routed(hop, took, attempt.number);
    this.#span.setAttribute("kas.route.result", hop).setAttribute("kas.route.attempts", attempt.number).end();
    this.#control?.report(attempt.number, { type: "accepted" });
    this.#handler.accepted();
  }

  /** From the first byte of an answer on there is no other attempt. */
  delivering(attempt: number): StreamHandler {
    if (!this.#delivered) {
      this.#delivered = true;
      this.#control?.report(attempt, { type: "delivered" });
    }
    return this.#handler;
  }

  onStopped(): void {
    this.#body = null;
    this.#handler.stopped();
  }

  onSent(bytes: number): void {
    this.#handler.sent(bytes);
  }

  /** Proof that this attempt did not run. */
  onRefused(attempt: number, reset: Reset, dial: boolean): void {
    this.#stream = null;
    if (!ELSEWHERE.has(reset.failure.code)) this.#end(reset, attempt);
    else this.#control?.report(attempt, { type: "refused", failure: reset.failure, dial });
  }

  /** No proof: it may have run. */
  onLost(attempt: number, reset: Reset): void {
    this.#stream = null;
    if (!BROKEN.has(reset.failure.code)) {
      this.#end(reset, attempt);
      return;
    }
    const replayable = !this.#delivered && (this.#body !== null || this.#bodyBytes === 0);
    this.#control?.report(attempt, { type: "lost", failure: reset.failure, replayable });
  }

  onDone(attempt: number): void {
    this.#over = true;
    this.#stream = null;
    this.#control?.report(attempt, { type: "done" });
    this.#handler.closed();
  }

  onClosed({ hop, bytesIn }: AttemptHandler, reason: ClosedReason): void {
    this.#options.metrics.closed(this.#request.kind, hop, reason, bytesIn, this.#bodyBytes);
  }

  /** The executor said what failed: no other attempt would fare better. */
  #end(reset: Reset, attempt: number): void {
    this.#control?.report(attempt, { type: "done" });
    this.#finish(reset);
  }

  #finish(reset: Reset): void {
    this.#release(reset);
    this.#handler.reset(reset);
    this.#handler.closed();
  }

  /** Lets go of everything the request holds. */
  #release(reset: Reset): void {
    this.#over = true;
    if (!this.#accepted) {
      const { code } = reset.failure;
      this.#options.metrics.unrouted(code, this.#options.clock.now() - this.#started);
      this.#span.setStatus({ code: SpanStatusCode.ERROR, message: code }).setAttribute("kas.route.result", code).end();
    }
    this.#dialling?.[Symbol.dispose]();
    this.#dialling = null;
    this.#body = null;
    const stream = this.#stream;
    this.#stream = null;
    stream?.reset(reset);
  }

  // ---- what the user of the stream does

  get queued(): number {
    return this.#stream ? this.#stream.queued : this.#body ? this.#bodyBytes : 0;
  }

  /** Callers of an ingress answer nothing: these belong to executing ends. */
  accept(): void {}
  head(): void {}

  data(bytes: Uint8Array): void {
    if (this.#over || this.#ended) return;
    this.#bodyBytes += bytes.length;
    this.#body?.push(bytes);
    this.#stream?.data(bytes);
  }

  trailer(): void {}

  end(): void {
    if (this.#over || this.#ended) return;
    this.#ended = true;
    this.#stream?.end();
  }

  stop(): void {
    this.#stopped = true;
    this.#stream?.stop();
  }

  consumed(bytes: number): void {
    this.#stream?.consumed(bytes);
  }

  reset(reset: Reset): void {
    if (this.#over) return;
    this.#control?.cancel();
    this.#release(reset);
    this.#handler.closed();
  }
}
