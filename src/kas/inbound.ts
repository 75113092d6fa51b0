/**
 * Streams that other nodes open here: a question to the node itself, or a request for an agent held here. This side only
 * executes, it never routes on: what it does not hold it refuses, and the asking node decides.
 */
import { SpanKind, SpanStatusCode } from "@opentelemetry/api";
import type { Holder } from "../cluster/holder.ts";
import { NODE_ITSELF, type NodeMethod, serveNodeCall } from "../cluster/node-service.ts";
import { decodeOpen, encodeOpen, type Open } from "../link/messages.ts";
import { splice } from "../link/splice.ts";
import type { Stream, StreamHandler } from "../link/stream.ts";
import { injectTrace, isTracing, type StartedSpan, startIncoming } from "../trace.ts";

export type InboundOptions = {
  readonly holder: Holder;
  readonly methods: ReadonlyMap<string, NodeMethod>;
  readonly opened: (open: Open) => void;
  readonly closed: (open: Open) => void;
};

/** Throws `Failed` to refuse, with proof that nothing ran. */
export function serveInbound(options: InboundOptions, payload: Uint8Array, stream: Stream): StreamHandler {
  const open = decodeOpen(payload);
  if (open.agentId === NODE_ITSELF) return serveNodeCall(options.methods, open, stream);
  const started = isTracing() ? startSpan(open) : null;
  const span = started?.span;
  const { inbound, outbound, join } = splice(stream, () => {
    span?.end();
    options.closed(open);
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
    span?.setStatus({ code: SpanStatusCode.ERROR }).end();
    throw error;
  }
}

function startSpan(open: Open): StartedSpan {
  const { traceparent, tracestate } = open;
  const incoming = { traceparent, tracestate, trusted: true };
  return startIncoming("kas.peer.open", SpanKind.SERVER, incoming, { "kas.agent.id": open.agentId });
}
