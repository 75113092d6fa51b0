/**
 * What every call of the Rails listener passes: its JWT, its span (a child of the caller's) and its duration.
 * Nothing of a call is read before its token was found good.
 */

import { type Metadata, type StatusObject, status } from "@grpc/grpc-js";
import {
  type Context,
  createTraceState,
  isSpanContextValid,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import type { Millis } from "../../actors/actor.ts";
import { type Failure, failure } from "../../actors/failure.ts";
import { Failed } from "../failed.ts";
import type { Answer, BugReport, CallHandler, ServerCall } from "../grpc/call.ts";
import { textOf } from "../grpc/metadata.ts";
import type { Clock } from "../runtime/clock.ts";
import { failureOf, grpcStatus } from "../status.ts";

/** Checks Rails' JWT: HS256, audience, expiry. The claims themselves are not needed here. */
export interface TokenVerifier {
  verify(token: string): object | Failure | Promise<object | Failure>;
}

export interface CallMetrics {
  /** `rpc_server_call_duration_seconds`; `method` is from a closed list, `status` a gRPC status name. */
  called(method: string, status: string, seconds: number): void;
}

export type GuardOptions = {
  readonly tokens: TokenVerifier;
  readonly tracer: Tracer;
  readonly metrics: CallMetrics;
  readonly clock: Clock;
  readonly bug: BugReport;
};

export type GuardedAnswer = (call: GuardedCall) => CallHandler;

/** A call whose caller is known to be Rails. */
export class GuardedCall implements ServerCall {
  readonly path: string;
  readonly metadata: Metadata;
  /** The call's own span, parent of everything done for it. */
  readonly trace: Context;
  readonly #call: ServerCall;
  readonly #span: Span;
  readonly #bug: BugReport;
  #ended: status | null = null;

  constructor(call: ServerCall, { tracer, bug }: GuardOptions) {
    this.path = call.path;
    this.metadata = call.metadata;
    this.#call = call;
    this.#bug = bug;
    const method = call.path.slice(1);
    const attributes = { "rpc.system.name": "grpc", "rpc.method": method };
    const parent = parentOf(call.metadata);
    this.#span = tracer.startSpan(method, { kind: SpanKind.SERVER, attributes }, parent);
    this.trace = trace.setSpan(parent, this.#span);
  }

  timeLeft(): Millis {
    return this.#call.timeLeft();
  }

  read(): void {
    this.#call.read();
  }

  sendMetadata(metadata: Metadata): void {
    this.#call.sendMetadata(metadata);
  }

  send(message: Uint8Array, sent: () => void): void {
    this.#call.send(message, sent);
  }

  finish(answer: StatusObject): void {
    if (this.#ended !== null) return;
    this.#ended = answer.code;
    this.#call.finish(answer);
  }

  fail(error: unknown): void {
    const why = failureOf(error);
    if (why.code === "internal") this.#bug(error);
    this.#span.setAttribute("error.type", why.code);
    this.finish(grpcStatus(why, this.#traceId()));
  }

  /** For whom the call is. */
  names(agentId: number): void {
    this.#span.setAttribute("kas.agent.id", agentId);
  }

  /** Ends the span; the name of the call's status. */
  over(): string {
    const gone = this.timeLeft() <= 0 ? status.DEADLINE_EXCEEDED : status.CANCELLED;
    const code = this.#ended ?? gone;
    const name = status[code] ?? "UNKNOWN";
    this.#span.setAttribute("rpc.status_code", name);
    if (code !== status.OK) this.#span.setStatus({ code: SpanStatusCode.ERROR });
    this.#span.end();
    return name;
  }

  #traceId(): string {
    const context = this.#span.spanContext();
    return isSpanContextValid(context) ? context.traceId : "";
  }
}

const TRACEPARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;
const MAX_TRACESTATE = 512;

/** Rails is trusted to say whose child the call is; `baggage` is ignored. */
function parentOf(metadata: Metadata): Context {
  const [, traceId, spanId, flags] = TRACEPARENT.exec(textOf(metadata, "traceparent")) ?? [];
  if (!traceId || !spanId || !flags) return ROOT_CONTEXT;
  const tracestate = textOf(metadata, "tracestate");
  return trace.setSpanContext(ROOT_CONTEXT, {
    traceId,
    spanId,
    traceFlags: Number.parseInt(flags, 16),
    isRemote: true,
    ...(tracestate && tracestate.length <= MAX_TRACESTATE && { traceState: createTraceState(tracestate) }),
  });
}

const BEARER = /^bearer +(\S+)$/i;
const isRefusal = (verdict: object): verdict is Failure => "code" in verdict && "reason" in verdict;

function verify(tokens: TokenVerifier, metadata: Metadata): object | Promise<object> {
  const token = BEARER.exec(textOf(metadata, "authorization"))?.[1];
  if (token) return tokens.verify(token);
  return failure(
    "unauthenticated",
    "the call has no token: send metadata `authorization: bearer <JWT>` signed with the secret of api.listen.authentication_secret_file",
  );
}

/** `label` names the method in metrics. */
export const guard =
  (options: GuardOptions, label: string, answer: GuardedAnswer): Answer =>
  (call) => {
    const began = options.clock.now();
    const guarded = new GuardedCall(call, options);
    let handler: CallHandler | null = null;
    let closed = false;
    const attempt = (run: () => void): void => {
      try {
        run();
      } catch (error) {
        guarded.fail(error);
      }
    };
    const admit = (verdict: object): void => {
      if (closed) return;
      if (isRefusal(verdict)) guarded.fail(new Failed(verdict));
      else attempt(() => (handler = answer(guarded)));
    };
    attempt(() => {
      const verdict = verify(options.tokens, call.metadata);
      if (verdict instanceof Promise) verdict.then(admit, (error: unknown) => guarded.fail(error));
      else admit(verdict);
    });
    return {
      message: (bytes) => attempt(() => handler?.message(bytes)),
      end: () => attempt(() => handler?.end()),
      closed() {
        closed = true;
        attempt(() => handler?.closed());
        options.metrics.called(label, guarded.over(), (options.clock.now() - began) / 1000);
      },
    };
  };
