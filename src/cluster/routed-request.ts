/**
 * One request at its ingress, as a stream: it does what the request actor decides. At most one attempt is open at a time;
 * until an agent accepted, the body is kept so that the next attempt sends it whole; after the first byte of an answer
 * there is no next attempt. Its user hears exactly one end: `reset` or both directions' end, then `closed`.
 */
import { type Context, SpanKind } from "@opentelemetry/api";
import { type Failure, failure } from "../../actors/failure.ts";
import type { ConnectionId, RequestId } from "../../actors/ids.ts";
import type { Link } from "../link/link.ts";
import { encodeOpen } from "../link/messages.ts";
import type { Reset, Stream, StreamHandler } from "../link/stream.ts";
import { failureOf, mayRetry } from "../status.ts";
import { startChild } from "../trace.ts";
import { AttemptHandler, type AttemptOwner, type ClosedReason, isBroken, openOf, unended } from "./attempt.ts";
import type { IngressOptions } from "./ingress-options.ts";
import { Replay } from "./replay.ts";
import { RouteRecord } from "./route-record.ts";
import type { Route, RoutedStream, RouteRequest } from "./router.ts";
import type { Attempt, RequestControl, RequestPort } from "./routing.ts";

export class RoutedRequest implements RoutedStream, RequestPort, AttemptOwner {
  readonly requestId: RequestId;
  route: Route | null = null;
  readonly #options: IngressOptions;
  readonly #request: RouteRequest;
  readonly #handler: StreamHandler;
  readonly #record: RouteRecord;
  #control: RequestControl | null = null;
  #starting = true;
  #stream: Stream | null = null;
  #handling: AttemptHandler | null = null;
  #limit: Disposable | null = null;
  #dialling: Disposable | null = null;
  /** Number of the attempt whose events count; those of any other are late. */
  #current = 0;
  readonly #body = new Replay();
  #accepted = false;
  #delivered = false;
  #over = false;

  constructor(options: IngressOptions, requestId: RequestId, request: RouteRequest, handler: StreamHandler) {
    this.#options = options;
    this.requestId = requestId;
    this.#request = request;
    this.#handler = handler;
    this.#record = new RouteRecord(options, request);
    const { agentId, acceptWithin, timeLeft, caller } = request;
    const idempotent = request.idempotent && !request.upgrade;
    if (caller.kind === "rails" && !options.mayExist(agentId)) {
      this.#early = failure("agent-unknown", `there is no agent ${agentId}: check the id, or register the agent`);
    } else {
      this.#control = options.routing.request({ requestId, agentId, acceptWithin, timeLeft, idempotent }, this);
    }
    this.#starting = false;
    const early = this.#early;
    if (early) queueMicrotask(() => ("code" in early ? this.fail(early) : this.attempt(early)));
  }

  // ---- what routing decides

  /** Decided while `routing.request` had not returned yet: done on a later turn, when our user has the stream in hand. */
  #early: Attempt | Failure | null = null;

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
    // An upgrade that may be starting at this moment: whoever reads "deadline" would run the command again.
    const unsure = this.#request.upgrade && this.#stream !== null && reason.code === "deadline";
    const told = unsure ? failure("outcome-unknown", `${reason.reason}. The agent may have executed it`) : reason;
    this.#finish({ failure: told, unprocessed: false });
  }

  #openHere(attempt: Attempt): void {
    const handler = new AttemptHandler(this, attempt, "local", null);
    const { holder } = this.#options;
    this.#begin(handler, () => {
      const open = this.#open(attempt, this.#record.trace);
      const { stream, connection } = holder.open(encodeOpen(open), open, handler);
      handler.connection = connection;
      return stream;
    });
  }

  #openThere(attempt: Attempt): void {
    let answered = false;
    const dialling = this.#options.peers.use(attempt.node, (link) => {
      answered = true;
      this.#dialling = null;
      if (!this.isCurrent(attempt.number)) return;
      if ("code" in link) this.onRefused(attempt.number, { failure: link, unprocessed: true }, true);
      else this.#openOver(link, attempt);
    });
    if (!answered) this.#dialling = dialling;
  }

  #openOver(link: Link, attempt: Attempt): void {
    const attributes = { "kas.node.id": attempt.node };
    const { span, context } = startChild("kas.peer.open", SpanKind.CLIENT, this.#record.trace, attributes);
    const handler = new AttemptHandler(this, attempt, "remote", span);
    this.#begin(handler, () => {
      const open = this.#open(attempt, context);
      return link.open(encodeOpen(open), handler, this.#request.agentId);
    });
  }

  #open(attempt: Attempt, context: Context) {
    return openOf(this.#request, this.requestId, attempt, this.#record.took, context);
  }

  /** `open` throws only what proves that nothing was sent. */
  #begin(handler: AttemptHandler, open: () => Stream): void {
    let stream: Stream;
    try {
      stream = open();
    } catch (error) {
      handler.unopened();
      const why = failureOf(error);
      if (handler.hop === "local") this.#options.metrics.refused?.(why.code);
      this.onRefused(handler.attempt.number, { failure: why, unprocessed: true }, false);
      return;
    }
    this.#options.metrics.opened(this.#request.kind, handler.hop);
    this.#handling = handler;
    this.#stream = stream;
    this.#body.sendTo(stream);
  }

  // ---- what becomes of the attempt, told by its handler

  isCurrent(attempt: number): boolean {
    return !this.#over && this.#current === attempt;
  }

  /** A second time when an idempotent request lost the first that had accepted: its user heard of one already. */
  onAccepted({ attempt, hop, connection }: AttemptHandler): void {
    const first = !this.#accepted;
    this.#accepted = true;
    this.#body.forget();
    const { took, started } = this.#record;
    const where = connection || (attempt.prefer as ConnectionId);
    this.route = { node: attempt.node, connection: where, hop, attempts: attempt.number, took };
    this.#control?.report(attempt.number, { type: "accepted" });
    if (!first) return;
    this.#record.accepted(this.route);
    const { timeLeft } = this.#request;
    const expired = () => this.#abandon(unended(this.#request));
    if (timeLeft > 0) this.#limit = this.#options.clock.schedule(started + timeLeft, expired);
    this.#handler.accepted();
  }

  /** Ends it from here. */
  #abandon(reason: Failure): void {
    if (this.#over) return;
    this.#control?.cancel();
    this.#finish({ failure: reason, unprocessed: false });
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
    this.#body.forget();
    this.#handler.stopped();
  }

  onSent(bytes: number): void {
    try {
      this.#handler.sent(bytes);
    } catch (error) {
      this.#options.fault?.(error);
      this.#abandon(failureOf(error));
    }
  }

  /** Proof that this attempt did not run. */
  onRefused(attempt: number, reset: Reset, dial: boolean): void {
    this.#stream = null;
    if (!mayRetry(reset.failure.code)) this.#end(reset, attempt);
    else this.#control?.report(attempt, { type: "refused", failure: reset.failure, dial });
  }

  /** No proof: it may have run. */
  onLost(attempt: number, reset: Reset): void {
    this.#stream = null;
    if (!isBroken(reset.failure.code)) {
      this.#end(reset, attempt);
      return;
    }
    const replayable = !this.#delivered && this.#body.recall();
    this.#control?.report(attempt, { type: "lost", failure: reset.failure, replayable });
  }

  onDone(attempt: number): void {
    this.#over = true;
    this.#stream = null;
    this.#limit?.[Symbol.dispose]();
    this.#control?.report(attempt, { type: "done" });
    this.#tell(() => this.#handler.closed());
  }

  onClosed({ hop, bytesIn, bytesOut }: AttemptHandler, reason: ClosedReason): void {
    this.#options.metrics.closed(this.#request.kind, hop, reason, bytesIn, bytesOut);
  }

  /** The last words: whoever throws at them must not harm the link that brought them, which carries others' streams. */
  #tell(say: () => void): void {
    try {
      say();
    } catch (error) {
      this.#options.fault?.(error);
    }
  }

  /** The executor said what failed: no other attempt would fare better. */
  #end(reset: Reset, attempt: number): void {
    this.#control?.report(attempt, { type: "done" });
    this.#finish(reset);
  }

  #finish(reset: Reset): void {
    this.#release(reset);
    this.#tell(() => this.#handler.reset(reset));
    this.#tell(() => this.#handler.closed());
  }

  /** Lets go of everything the request holds. */
  #release(reset: Reset): void {
    this.#over = true;
    this.#record.failed(reset.failure.code, this.#current);
    this.#limit?.[Symbol.dispose]();
    this.#dialling?.[Symbol.dispose]();
    this.#dialling = null;
    this.#body.forget();
    const stream = this.#stream;
    this.#stream = null;
    if (stream) this.#handling?.cut(reset.failure.code);
    stream?.reset(reset);
  }

  // ---- what the user of the stream does

  get queued(): number {
    return this.#stream ? this.#stream.queued : this.#body.waiting;
  }

  /** Callers of an ingress answer nothing: these belong to executing ends. */
  accept(): void {}
  head(): void {}

  data(bytes: Uint8Array): void {
    if (this.#over || this.#body.ended) return;
    this.#body.data(bytes);
    this.#stream?.data(bytes);
  }

  trailer(): void {}

  end(): void {
    if (this.#over || this.#body.ended) return;
    this.#body.end();
    this.#stream?.end();
  }

  stop(): void {
    this.#body.stop();
    this.#stream?.stop();
  }

  consumed(bytes: number): void {
    this.#stream?.consumed(bytes);
  }

  reset(reset: Reset): void {
    if (this.#over) return;
    this.#control?.cancel();
    this.#release(reset);
    this.#tell(() => this.#handler.closed());
  }
}
