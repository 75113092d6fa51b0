/**
 * Streams that other nodes open here: a question to the node itself, or a request for an agent held here. This side only
 * executes, it never routes on: what it does not hold it refuses, and the asking node decides.
 */
import { SpanKind, SpanStatusCode } from "@opentelemetry/api";
import type { FailureCode } from "../../actors/failure.ts";
import type { ClosedReason } from "../cluster/attempt.ts";
import type { Holder } from "../cluster/holder.ts";
import { NODE_ITSELF, type NodeMethod, serveNodeCall } from "../cluster/node-service.ts";
import type { StreamLimit } from "../cluster/stream-limit.ts";
import { Failed } from "../failed.ts";
import { decodeOpen, encodeOpen, type Open } from "../link/messages.ts";
import { splice } from "../link/splice.ts";
import type { Stream, StreamHandler } from "../link/stream.ts";
import { failureOf } from "../status.ts";
import { injectTrace, isTracing, type StartedSpan, startIncoming } from "../trace.ts";

export type InboundOptions = {
  readonly holder: Holder;
  readonly methods: ReadonlyMap<string, NodeMethod>;
  readonly streams?: StreamLimit;
  readonly opened: (open: Open) => void;
  /** Once for each that was opened, with how it ended. */
  readonly closed: (open: Open, reason: ClosedReason) => void;
  /** This node would not take it. */
  readonly refused?: (code: FailureCode) => void;
};

/** Throws `Failed` to refuse, with proof that nothing ran. */
export function serveInbound(options: InboundOptions, payload: Uint8Array, stream: Stream): StreamHandler {
  const open = decodeOpen(payload);
  if (open.agentId === NODE_ITSELF) return serveNodeCall(options.methods, open, stream);
  const full = options.streams?.take();
  if (full) throw new Failed(full);
  const started = isTracing() ? startSpan(open) : null;
  const span = started?.span;
  const { inbound, outbound, join } = splice(stream, (failure) => {
    if (failure) span?.setStatus({ code: SpanStatusCode.ERROR, message: failure.code });
    span?.end();
    options.streams?.release();
    options.closed(open, failure?.code ?? "done");
  });
  try {
    // Written anew only where somebody records it: the agent's span is then a child of ours, else of the ingress's.
    const onward = started?.span.isRecording() ? encodeOpen({ ...open, ...injectTrace(started.context) }) : payload;
    const { stream: outward, connection } = options.holder.open(onward, open, outbound);
    span?.setAttribute("kas.connection.id", connection);
    options.opened(open);
    join(outward);
    stream.group?.(open.agentId); // agents take turns on the way back, too
    return inbound;
  } catch (error) {
    options.streams?.release();
    span?.setStatus({ code: SpanStatusCode.ERROR }).end();
    options.refused?.(failureOf(error).code);
    throw error;
  }
}

function startSpan(open: Open): StartedSpan {
  const { traceparent, tracestate } = open;
  const incoming = { traceparent, tracestate, trusted: true };
  return startIncoming("kas.peer.open", SpanKind.SERVER, incoming, { "kas.agent.id": open.agentId });
}
