/**
 * One HTTP request between a stream and an upstream. Bytes are read from either side only as the other takes them; the
 * request is handed to at most one connection, once; whoever ends it, timers, body and socket go with it.
 */
import type { Duplex } from "node:stream";
import type { Dispatcher } from "undici";
import { type Failure, failure } from "../../actors/failure.ts";
import { failed } from "../failed.ts";
import { encodeHead, encodeTrailer, type Open } from "../link/messages.ts";
import type { Stream, StreamHandler } from "../link/stream.ts";
import type { Clock } from "../runtime/clock.ts";
import { answerHeaders } from "./headers.ts";
import { MAX_QUEUED } from "./limits.ts";
import type { ExecutionOutcome, Observation } from "./observation.ts";
import { RequestBody } from "./request-body.ts";
import { UpgradedSocket } from "./upgraded-socket.ts";
import type { Upstream } from "./upstream.ts";
import { type Progress, upstreamReset } from "./upstream-failure.ts";
import type { UpstreamRequest } from "./upstream-request.ts";

export type ExchangeOptions = {
  readonly open: Open;
  readonly stream: Stream;
  readonly upstream: Upstream;
  readonly request: UpstreamRequest;
  readonly clock: Clock;
  readonly observation: Observation;
};

export class Exchange implements StreamHandler, Dispatcher.DispatchHandler {
  readonly #stream: Stream;
  readonly #upstream: Upstream;
  readonly #request: UpstreamRequest;
  readonly #observation: Observation;
  readonly #body = new RequestBody();
  readonly #clock: Clock;
  readonly #deadline: Disposable | null;
  readonly #startBy: Disposable | null;
  #controller: Dispatcher.DispatchController | null = null;
  #socket: UpgradedSocket | null = null;
  #progress: Progress = "before";
  #dispatched = false;
  #over = false;
  #status = 0;

  constructor({ open, stream, upstream, request, clock, observation }: ExchangeOptions) {
    this.#stream = stream;
    this.#clock = clock;
    this.#upstream = upstream;
    this.#request = request;
    this.#observation = observation;
    const { acceptWithin, timeLeft } = open;
    const late = () => this.#fail(failure("deadline", `${upstream.title} did not finish the answer in time`));
    const lateToStart = () => this.#fail(this.#whyNotStarted(), true);
    this.#deadline = timeLeft > 0 ? clock.schedule(clock.now() + timeLeft, late) : null;
    this.#startBy = acceptWithin > 0 ? clock.schedule(clock.now() + acceptWithin, lateToStart) : null;
    // An ordinary request waits for its first bytes or its end: only they say whether it has a body.
    if (request.upgrade) this.#dispatchSoon();
  }

  // What the stream tells.

  accepted(): void {}
  head(): void {}
  trailer(): void {}

  data(bytes: Uint8Array): void {
    if (this.#over) this.#stream.consumed(bytes.length);
    else if (this.#socket) this.#socket.write(bytes);
    else {
      this.#body.push(bytes);
      this.#dispatchSoon();
    }
  }

  end(): void {
    this.#body.end();
    if (this.#over) return;
    if (this.#socket) this.#socket.end();
    else this.#dispatchSoon();
  }

  stopped(): void {
    if (this.#over) return;
    if (this.#socket) {
      this.#socket.stopped();
      return;
    }
    const { ended } = this.#body;
    this.#leave("cancelled");
    this.#stream.end();
    if (!ended) this.#stream.stop();
  }

  reset(): void {
    this.#leave("cancelled");
  }

  sent(): void {
    if (this.#socket) this.#socket.sent();
    else if (this.#controller?.paused && this.#stream.queued <= MAX_QUEUED) {
      // Never on this stack: undici's parser is one for all connections and may be the caller.
      queueMicrotask(() => {
        if (!this.#over) this.#controller?.resume();
      });
    }
  }

  closed(): void {
    if (this.#over) return;
    const socket = this.#socket;
    if (!socket) this.#leave("ok");
    else {
      socket.release(this.#clock);
      this.#finish("ok");
    }
  }

  // What undici tells.

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#over) {
      controller.abort(ABORTED);
      return;
    }
    this.#startBy?.[Symbol.dispose]();
    this.#progress = "sent";
    this.#stream.accept();
  }

  onBodySent(chunk: Buffer): void {
    this.#stream.consumed(chunk.length);
  }

  onResponseStart({ rawHeaders }: Dispatcher.DispatchController, status: number): void {
    if (this.#over || status < 200) return;
    this.#answer(status, rawHeaders, false);
    if (status === 401) this.#upstream.unauthorized();
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#over) return;
    this.#stream.data(chunk);
    if (this.#stream.queued > MAX_QUEUED) controller.pause();
  }

  onResponseEnd({ rawTrailers }: Dispatcher.DispatchController): void {
    if (this.#over) return;
    const headers = answerHeaders(rawTrailers, false);
    if (headers.length > 0) this.#stream.trailer(encodeTrailer({ status: 0, message: "", headers }));
    const { ended } = this.#body;
    this.#finish("ok");
    this.#stream.end();
    // Answered before the body ended: the rest of it is of no use to anybody.
    if (!ended) this.#stream.stop();
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    if (this.#over) return;
    const reset = upstreamReset(error, this.#progress, this.#upstream);
    this.#finish(reset.failure.code);
    this.#stream.reset(reset);
  }

  onRequestUpgrade(controller: Dispatcher.DispatchController, status: number, _headers: unknown, socket: Duplex): void {
    if (this.#over) {
      socket.destroy();
      return;
    }
    this.#socket = new UpgradedSocket(socket, this.#stream, this.#upstream.title, (reason) => this.#fail(reason));
    this.#answer(status, controller.rawHeaders, true);
    for (const chunk of this.#body.take()) this.#socket.write(chunk);
    if (this.#body.ended) this.#socket.end();
  }

  /** On the next turn of the microtask queue, so that a body that came whole with its end is sent whole. */
  #dispatchSoon(): void {
    if (this.#dispatched) return;
    this.#dispatched = true;
    queueMicrotask(() => this.#dispatch());
  }

  #dispatch(): void {
    if (this.#over) return;
    const { method, path, headers, upgrade, contentLength } = this.#request;
    const { pool, upgrades, type } = this.#upstream;
    const body = upgrade ? null : this.#body.open();
    if (!upgrade && body === null && contentLength !== null && Number(contentLength) !== 0) {
      this.#fail(failure("invalid", `the request declares content-length ${contentLength} but has no body`));
      return;
    }
    const to = upgrade ? upgrades : pool;
    // undici closes a connection after HEAD and after a body where none is usual, lest a server misread it. The API
    // server does not, and kubectl delete sends such bodies; services are not trusted that far.
    const reset = type === "kubernetes" ? false : null;
    to.dispatch({ method, path, headers, body, ...(upgrade ? { upgrade } : reset === false && { reset }) }, this);
  }

  #whyNotStarted(): Failure {
    const { title } = this.#upstream;
    if (this.#dispatched) return failure("deadline", `${title} took no connection in time: ${this.#upstream.advice}`);
    return failure("deadline", `the request to ${title} neither began its body nor ended in time, so nothing was sent`);
  }

  #answer(status: number, raw: unknown, upgraded: boolean): void {
    const head = encodeHead({ status, headers: answerHeaders(raw, upgraded) });
    this.#progress = "answering";
    this.#status = status;
    this.#stream.head(head);
  }

  #fail(reason: Failure, unprocessed = false): void {
    if (this.#over) return;
    this.#leave(reason.code);
    this.#stream.reset({ failure: reason, unprocessed });
  }

  /** Ends the upstream's side at once. */
  #leave(outcome: ExecutionOutcome): void {
    if (this.#over) return;
    this.#finish(outcome);
    this.#socket?.destroy();
    this.#controller?.abort(ABORTED);
  }

  /** Before the stream is told, because the stream may call back at once. */
  #finish(outcome: ExecutionOutcome): void {
    this.#over = true;
    this.#deadline?.[Symbol.dispose]();
    this.#startBy?.[Symbol.dispose]();
    this.#body.destroy();
    this.#observation.ended(outcome, this.#status);
  }
}

const ABORTED = failed("cancelled", "nobody waits for the answer any more");
