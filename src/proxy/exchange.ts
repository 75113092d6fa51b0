/**
 * One ordinary HTTP request and its stream, both ways at once and under backpressure: the body stops being read while the
 * stream holds more than 64 KiB of it, and the answer is credited only as the caller takes it.
 */
import { type Failure, failure } from "../../actors/failure.ts";
import type { TokenId } from "../auth/auth.ts";
import { failed } from "../failed.ts";
import { decodeHead, decodeTrailer } from "../link/messages.ts";
import type { Reset, StreamHandler } from "../link/stream.ts";
import { Answer } from "./answer.ts";
import { preflightHeaders } from "./cors.ts";
import { watchStall } from "./stall.ts";
import { Visit, type VisitContext } from "./visit.ts";
import type { Verdict, Wire } from "./wire.ts";

/** Stopping and starting a socket costs more than the chunk it comes with, so not at each chunk. */
const PAUSE_ABOVE = 192 * 1024;
const RESUME_BELOW = 96 * 1024;

export class Exchange implements StreamHandler {
  readonly #visit: Visit;
  readonly #answer: Answer;
  readonly #wire: Wire;
  readonly #context: VisitContext;
  /** The body is read but goes nowhere. */
  #discarding = false;
  #stall: Disposable | null = null;
  #over = false;
  #awaitsContinue = false;
  /** The answer ended, as the agent sent it. */
  #answered = false;

  readonly #closedTo: (exchange: Exchange) => void;

  /** `closed` is told once, when the answer left or the caller did. */
  constructor(wire: Wire, context: VisitContext, closed: (exchange: Exchange) => void) {
    this.#closedTo = closed;
    this.#wire = wire;
    this.#context = context;
    this.#visit = new Visit(wire, context);
    this.#answer = new Answer(wire, { taken: (bytes) => this.#visit.stream?.consumed(bytes), last: context.draining });
    wire.onOver(() => this.callerGone());
  }

  /** `fault`: refuse it for this; `awaitsContinue`: the caller sends its body only after a 100. */
  start(fault: Verdict | null, awaitsContinue: boolean): void {
    this.#awaitsContinue = awaitsContinue;
    try {
      const request = this.#visit.read(this.#wire, false);
      const { headers, method } = request;
      if (fault) {
        this.#fail(fault.failure, fault.status);
        return;
      }
      if (method === "OPTIONS" && headers.origin && headers.preflight) {
        this.#preflight(headers.origin);
        return;
      }
      this.#visit.open(
        request,
        this,
        () => this.#forwardBody(),
        (refusal) => this.#fail(refusal),
      );
    } catch (error) {
      this.#fail(fault?.failure ?? this.#visit.failureOf(error), fault?.status);
    }
  }

  #preflight(origin: string): void {
    if (!this.#context.allowedOrigins.includes(origin)) {
      this.#fail(failure("forbidden", "forbidden: pages of this origin may not call this server"));
      return;
    }
    this.#answer.plain(200, preflightHeaders(this.#visit.extra), "");
  }

  #forwardBody(): void {
    if (!this.#wire.hasBody) {
      this.#visit.stream?.end();
      return;
    }
    this.#wire.readBody(
      (chunk) => this.#bodyData(chunk),
      () => {
        if (!this.#discarding) this.#visit.stream?.end();
      },
    );
  }

  #bodyData(chunk: Buffer): void {
    this.#visit.record.bytesIn += chunk.length;
    const { stream } = this.#visit;
    if (this.#discarding || stream === null) return;
    stream.data(chunk);
    if (stream.queued > PAUSE_ABOVE) this.#pause();
  }

  /** A watch outlives short waits, so that a fast upload makes one timer and not one for each. */
  #pause(): void {
    this.#wire.pause();
    const { clock, limits } = this.#context;
    this.#stall ??= watchStall({
      clock,
      within: limits.uploadStalled,
      moved: () => (this.#wire.paused ? this.#visit.moved + this.#answer.bytes : null),
      over: (stalled) => {
        this.#stall = null;
        if (stalled) this.#spoilt(this.#visit.stalled(limits.uploadStalled));
      },
    });
  }

  #discardRest(): void {
    this.#discarding = true;
    this.#wire.discardRest();
  }

  accepted(): void {
    if (this.#awaitsContinue && !this.#answer.started) this.#wire.sayContinue();
  }

  head(payload: Uint8Array): void {
    if (this.#answer.started) return;
    try {
      const head = decodeHead(payload);
      if (head.status < 200 || head.status > 999) {
        throw failed("protocol", `the agent answered with status ${head.status}, which ends no ordinary request`);
      }
      this.#answer.head(head, this.#visit.policy);
    } catch (error) {
      this.#spoilt(error);
    }
  }

  data(bytes: Uint8Array): void {
    if (!this.#answer.started) {
      this.#spoilt(failed("protocol", "the agent sent data before a head"));
      return;
    }
    this.#answer.data(bytes);
  }

  trailer(payload: Uint8Array): void {
    try {
      this.#answer.trailer(decodeTrailer(payload).headers);
    } catch (error) {
      this.#spoilt(error);
    }
  }

  end(): void {
    if (!this.#answer.started) {
      this.#spoilt(failed("protocol", "the agent ended its answer before a head"));
      return;
    }
    this.#answered = true;
    this.#answer.end();
    if (this.#wire.hasBody && !this.#wire.bodyWhole) process.nextTick(settleBody, this);
  }

  /** @internal The answer is whole and the body is not: a STOP may have come with the END. */
  settleBody(): void {
    this.#discardRest();
    this.#visit.cancel("the answer was complete before the body");
  }

  stopped(): void {
    if (!this.#wire.hasBody || this.#wire.bodyWhole) return;
    this.#discarding = true;
    this.#visit.stream?.end();
    this.#wire.resume();
  }

  sent(): void {
    const { stream } = this.#visit;
    if (this.#wire.paused && stream && stream.queued < RESUME_BELOW) this.#wire.resume();
  }

  reset({ failure }: Reset): void {
    this.#fail(failure);
  }

  closed(): void {}

  /** Ends it if it runs on one of these tokens. */
  revoked(tokens: ReadonlySet<TokenId>): void {
    if (!tokens.has(this.#visit.tokenId)) return;
    const refusal = failure("unauthenticated", "unauthorized: this token was revoked while the request ran");
    this.#visit.stream?.reset({ failure: refusal, unprocessed: false });
    this.#fail(refusal);
  }

  /** What the agent sent, or the reason that nothing can be made of it. */
  #spoilt(error: unknown): void {
    const known = error instanceof Error && "code" in error ? unfit(error) : error;
    const reason = this.#visit.failureOf(known);
    this.#visit.stream?.reset({ failure: reason, unprocessed: false });
    this.#fail(reason);
  }

  #fail(reason: Failure, http?: number): void {
    if (this.#answer.ended) return;
    this.#visit.record.failure = reason;
    this.#answer.fail(reason, this.#visit.traceId, this.#visit.extra, http);
    this.#discardRest();
  }

  /** The answer has left, or its caller has. */
  callerGone(): void {
    if (this.#over) return;
    this.#over = true;
    this.#stall?.[Symbol.dispose]();
    const { record } = this.#visit;
    const whole = this.#wire.left;
    if (!whole && record.failure === null) record.failure = failure("cancelled", "the caller closed the connection");
    if (!whole || !this.#answered) this.#visit.cancel("the caller closed the connection");
    this.#visit.finish(this.#answer.status, this.#answer.bytes);
    this.#closedTo(this);
  }
}

/** Node's own error for a header that may not be written. */
const unfit = (cause: Error) =>
  failed("protocol", "the cluster's answer has a header that is not valid HTTP: its head was not passed on", cause);

function settleBody(exchange: Exchange): void {
  exchange.settleBody();
}
