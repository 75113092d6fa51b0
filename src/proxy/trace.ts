/**
 * The trace of one request. Callers here are strangers: what they say of their own trace becomes a link, never a parent.
 * There is a trace id even when tracing is off, because people quote it.
 */
import { randomFillSync } from "node:crypto";
import {
  type Context,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  type Tracer,
  trace,
} from "@opentelemetry/api";

export type RequestTrace = { readonly span: Span; readonly context: Context; readonly traceId: string };

const TRACEPARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;
const NO_ID = /^0+$/;

function remoteContext(traceparent: string): SpanContext | null {
  const [, traceId, spanId, flags] = TRACEPARENT.exec(traceparent) ?? [];
  if (!traceId || !spanId || !flags || NO_ID.test(traceId) || NO_ID.test(spanId)) return null;
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & 1, isRemote: true };
}

export function beginTrace(tracer: Tracer, traceparent: string): RequestTrace {
  const remote = traceparent ? remoteContext(traceparent) : null;
  const options = { kind: SpanKind.SERVER, root: true, ...(remote && { links: [{ context: remote }] }) };
  const span = tracer.startSpan("kas.proxy", options, ROOT_CONTEXT);
  const { traceId } = span.spanContext();
  if (!NO_ID.test(traceId)) return { span, context: trace.setSpan(ROOT_CONTEXT, span), traceId };
  const spanContext = { traceId: randomHex(16), spanId: randomHex(8), traceFlags: 0 };
  return { span, context: trace.setSpanContext(ROOT_CONTEXT, spanContext), traceId: spanContext.traceId };
}

/** One call of the generator serves many ids. */
const pool = Buffer.alloc(4096);
let used = pool.length;

function randomHex(bytes: number): string {
  if (used + bytes > pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  used += bytes;
  return pool.toString("hex", used - bytes, used);
}
