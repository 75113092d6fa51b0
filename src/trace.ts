/**
 * Trace context across processes (W3C), imported from everywhere. A request always has a trace id, also where tracing is
 * off: what a trusted caller sent goes on, anything else gets a new one. Baggage is never read or sent.
 */
import { randomBytes } from "node:crypto";
import {
  type Attributes,
  type Context,
  createTraceState,
  INVALID_SPAN_CONTEXT,
  INVALID_SPANID,
  INVALID_TRACEID,
  ProxyTracerProvider,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  type SpanKind,
  trace,
} from "@opentelemetry/api";

/** As on the wire; "" for none. */
export type TraceHeaders = { readonly traceparent: string; readonly tracestate: string };

/** `trusted`: from Rails or a peer. What others send (kubectl, browsers, agents) is only linked to. */
export type IncomingTrace = TraceHeaders & { readonly trusted: boolean };

export type StartedSpan = { readonly span: Span; readonly context: Context };

const MAX_TRACESTATE_BYTES = 512;
const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

/** What the API answers with as long as nobody registered a provider. */
const NOBODY = new ProxyTracerProvider().getDelegate();
const SILENT = trace.wrapSpanContext(INVALID_SPAN_CONTEXT);

/** Without a provider nobody records a span, and whatever is done for one is in vain. */
export function isTracing(): boolean {
  const provider = trace.getTracerProvider();
  return !(provider instanceof ProxyTracerProvider) || provider.getDelegate() !== NOBODY;
}

/** For contexts of ours, whose ids were checked when they came. */
const isNamed = ({ traceId, spanId }: SpanContext): boolean =>
  traceId !== INVALID_TRACEID && spanId !== INVALID_SPANID && traceId !== "";

/** The span context in the headers, or null when they carry none that is valid. */
export function parseTrace({ traceparent, tracestate }: TraceHeaders): SpanContext | null {
  const [, version, traceId = "", spanId = "", flags = "00", rest] = TRACEPARENT.exec(traceparent) ?? [];
  if (!version || version === "ff" || (version === "00" && rest !== undefined)) return null;
  const found: SpanContext = { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & 1, isRemote: true };
  if (!isNamed(found)) return null;
  const keep = tracestate !== "" && tracestate.length <= MAX_TRACESTATE_BYTES;
  return keep ? { ...found, traceState: createTraceState(tracestate) } : found;
}

/** The first span of a request in this process; a child when the caller is trusted, else a new root linked to the caller's. */
export function startIncoming(
  name: string,
  kind: SpanKind,
  incoming: IncomingTrace,
  attributes: Attributes = {},
): StartedSpan {
  const remote = parseTrace(incoming);
  if (!isTracing()) return named(remote && incoming.trusted ? remote : mint());
  const parent = remote && incoming.trusted ? trace.setSpanContext(ROOT_CONTEXT, remote) : ROOT_CONTEXT;
  const links = remote && !incoming.trusted ? [{ context: remote }] : [];
  const span = tracer().startSpan(name, { kind, attributes, links }, parent);
  if (isNamed(span.spanContext())) return { span, context: trace.setSpan(parent, span) };
  return named(mint());
}

function named(spanContext: SpanContext): StartedSpan {
  const span = trace.wrapSpanContext(spanContext);
  return { span, context: trace.setSpan(ROOT_CONTEXT, span) };
}

/** A span below `parent`. Costs next to nothing while tracing is off. */
export function startChild(name: string, kind: SpanKind, parent: Context, attributes: Attributes = {}): StartedSpan {
  if (!isTracing()) return { span: SILENT, context: parent };
  const span = tracer().startSpan(name, { kind, attributes }, parent);
  return { span, context: trace.setSpan(parent, span) };
}

/** What to send along; "" twice where the context has no trace. */
export function injectTrace(context: Context): TraceHeaders {
  const found = trace.getSpanContext(context);
  if (!found || !isNamed(found)) return { traceparent: "", tracestate: "" };
  const flags = found.traceFlags.toString(16).padStart(2, "0");
  const tracestate = found.traceState?.serialize() ?? "";
  return {
    traceparent: `00-${found.traceId}-${found.spanId}-${flags}`,
    tracestate: tracestate.length <= MAX_TRACESTATE_BYTES ? tracestate : "",
  };
}

/** 32 hex digits, or "" where the context has no trace. */
export const traceIdOf = (context: Context): string => trace.getSpanContext(context)?.traceId ?? "";

/** For log records: which span of which trace. */
export function traceFields(context: Context): { readonly trace_id?: string; readonly span_id?: string } {
  const found = trace.getSpanContext(context);
  return found ? { trace_id: found.traceId, span_id: found.spanId } : {};
}

/** Not sampled, so nobody records it; it only names the request. */
function mint(): SpanContext {
  const random = randomBytes(24).toString("hex");
  return { traceId: random.slice(0, 32), spanId: random.slice(32), traceFlags: 0 };
}

const tracer = () => trace.getTracer("kas");
