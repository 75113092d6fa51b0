/**
 * What an ordinary request and an upgrade have in common: from the raw head to a stream at the router, at most one, and
 * never after the caller has gone or was refused.
 */
import type { Tracer } from "@opentelemetry/api";
import type { Millis } from "../../actors/actor.ts";
import { type Failure, failure } from "../../actors/failure.ts";
import { type Auth, isRefusal, type ProxyAccess, type ProxyCredential, type TokenId } from "../auth/auth.ts";
import type { RoutedStream, Router } from "../cluster/router.ts";
import { Failed } from "../failed.ts";
import type { FlatHeaders } from "../link/messages.ts";
import type { StreamHandler } from "../link/stream.ts";
import type { Clock } from "../runtime/clock.ts";
import { failureOf } from "../status.ts";
import {
  type AdmissionOptions,
  admit,
  checkOrigin,
  credentialOf,
  type RawRequest,
  type ReadRequest,
  readRequest,
} from "./admission.ts";
import type { AnswerPolicy } from "./answer-headers.ts";
import { corsHeaders } from "./cors.ts";
import { type Protocol, type ProxyLog, type ProxyMetrics, RequestRecord } from "./request-record.ts";
import { stalledUpload } from "./stall.ts";
import { beginTrace } from "./trace.ts";

export type ProxyLimits = {
  /** An agent must have accepted a request in this time. */
  readonly acceptWithin: Millis;
  readonly headersTimeout: Millis;
  /** Longer than the balancer's, so that the balancer closes first. */
  readonly keepAliveTimeout: Millis;
  readonly maxHeaderBytes: number;
  /** Requests begun on one socket before the first is answered. */
  readonly maxPipelined: number;
  /** After a drain began, idle sockets are closed this much later. */
  readonly idleGrace: Millis;
  /** A body that nobody wants is read on this far and this long, so that its sender reads our answer. */
  readonly discardBytes: number;
  readonly discardWithin: Millis;
  /** What an HTTP/2 connection may do at once: requests, and bytes of bodies that their agents have not taken. */
  readonly maxStreams: number;
  readonly maxBodyBytes: number;
  /** Pings and settings of one HTTP/2 connection in ten seconds; a request taken back unanswered counts twice. */
  readonly maxNuisance: number;
  /** An upload of which nothing was taken, while nothing was answered either, ends after this. */
  readonly uploadStalled: Millis;
  /** The same for an upgraded connection. */
  readonly upgradeStalled: Millis;
};

export type VisitContext = AdmissionOptions & {
  /** What the caller speaks. */
  readonly protocol: Protocol;
  /** Our entry in Via of answers: agents speak HTTP/1.1 to clusters. */
  readonly answerVia: string;
  readonly router: Router;
  readonly access: Pick<Auth, "proxyAccess">;
  readonly log: ProxyLog;
  readonly metrics: ProxyMetrics;
  readonly tracer: Tracer;
  readonly clock: Clock;
  readonly limits: ProxyLimits;
  readonly draining: () => boolean;
};

export class Visit {
  readonly record: RequestRecord;
  readonly #context: VisitContext;
  stream: RoutedStream | null = null;
  /** For every answer: trace id, and CORS once the origin is known. */
  extra: FlatHeaders;
  #base: string;
  #tokenId: TokenId = "";
  #browser = false;
  #over = false;

  constructor(req: RawRequest, context: VisitContext) {
    this.#context = context;
    this.#base = context.prefix.slice(0, -1);
    const trace = beginTrace(context.tracer, traceparentOf(req.rawHeaders));
    this.record = new RequestRecord(req.method ?? "", context.protocol, trace, context.clock.now());
    this.extra = ["x-kas-trace-id", trace.traceId];
  }

  get traceId(): string {
    return this.record.trace.traceId;
  }

  get tokenId(): TokenId {
    return this.#tokenId;
  }

  /** Everything the bytes of the head can tell; throws `Failed`. */
  read(req: RawRequest, upgrade: boolean): ReadRequest {
    const request = readRequest(req, upgrade, this.#context);
    const { target, headers } = request;
    if (target.target.type === "service") this.#base += `/services/${target.target.name}`;
    this.record.target = target.target.type === "service" ? target.target.name : "kubernetes";
    this.record.path = target.path;
    this.record.upgrade = upgrade;
    const cors = corsHeaders(headers.origin, this.#context.allowedOrigins);
    if (cors.length > 0) this.extra = [...this.extra, ...cors];
    return request;
  }

  /** Asks who the caller is and opens the stream; `opened` or `refused` is called once, unless the visit is over by then. */
  open(request: ReadRequest, handler: StreamHandler, opened: () => void, refused: (failure: Failure) => void): void {
    const settle = (open: () => Failure | null): void => {
      if (this.#over) return;
      const refusal = this.#attempt(open);
      if (refusal) refused(refusal);
      else opened();
    };
    let credential: ProxyCredential;
    let answer: ReturnType<Auth["proxyAccess"]>;
    try {
      credential = this.#credential(request);
      answer = this.#context.access.proxyAccess(credential);
    } catch (error) {
      refused(this.failureOf(error));
      return;
    }
    if (answer instanceof Promise) {
      answer.then(
        (later) => settle(() => this.#route(request, credential, later, handler)),
        (error: unknown) => settle(() => this.failureOf(error)),
      );
    } else {
      const now = answer;
      settle(() => this.#route(request, credential, now, handler));
    }
  }

  #attempt(open: () => Failure | null): Failure | null {
    try {
      return open();
    } catch (error) {
      return this.failureOf(error);
    }
  }

  #credential(request: ReadRequest): ProxyCredential {
    const credential = credentialOf(request);
    this.record.agentId = credential.agentId;
    this.#browser = credential.kind === "cookie";
    checkOrigin(request, credential, this.#context.allowedOrigins);
    return credential;
  }

  #route(
    request: ReadRequest,
    credential: ProxyCredential,
    access: ProxyAccess | Failure,
    handler: StreamHandler,
  ): Failure | null {
    if (isRefusal(access)) return access;
    this.record.caller = access.caller;
    this.#tokenId = access.tokenId;
    const { acceptWithin } = this.#context.limits;
    const route = admit(request, credential, access, this.record.trace, acceptWithin);
    this.stream = this.#context.router.open(route, handler);
    this.record.requestId = this.stream.requestId;
    return null;
  }

  get policy(): AnswerPolicy {
    return { base: this.#base, browser: this.#browser, via: this.#context.answerVia, extra: this.extra };
  }

  /** A bug is logged here and only here. */
  failureOf(error: unknown): Failure {
    const known = failureOf(error);
    if (known.code === "internal") this.#context.log.bug(error, this.traceId);
    return known;
  }

  /** Bytes of the caller that its stream has passed on. */
  get moved(): number {
    return this.record.bytesIn - (this.stream?.queued ?? 0);
  }

  stalled(within: Millis): Failed {
    return new Failed(stalledUpload(this.record.agentId, within));
  }

  /** The caller has gone, or what it may do has. */
  cancel(reason: string): void {
    this.stream?.reset({ failure: failure("cancelled", reason), unprocessed: false });
  }

  /** Writes the record; once, however often it is called. */
  finish(status: number, bytesOut: number): void {
    if (this.#over) return;
    this.#over = true;
    const { record } = this;
    record.status = status;
    record.bytesOut = bytesOut;
    record.route = this.stream?.route ?? null;
    record.finish(this.#context.clock.now(), this.#context.log, this.#context.metrics);
  }
}

function traceparentOf(raw: readonly string[]): string {
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] ?? "";
    if (name.length === 11 && name.toLowerCase() === "traceparent") return raw[i + 1] ?? "";
  }
  return "";
}
