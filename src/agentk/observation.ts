/** What is recorded of one HTTP execution: the agent's span under the caller's trace, the upstream's below it, and, when it ended, one call for metrics. */
import { type Attributes, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import type { Millis } from "../../actors/actor.ts";
import type { FailureCode } from "../../actors/failure.ts";
import type { Open } from "../link/messages.ts";
import type { Clock } from "../runtime/clock.ts";
import { isTracing, parseTrace, startChild } from "../trace.ts";

export type ExecutionOutcome = FailureCode | "ok";

/** `status` is the upstream's, 0 when it gave none. */
export type ObserveExecution = (execution: {
  readonly target: Open["target"]["type"];
  readonly outcome: ExecutionOutcome;
  readonly status: number;
  readonly took: Millis;
}) => void;

export interface Observation {
  /** Once, whatever happened. */
  ended(outcome: ExecutionOutcome, status: number): void;
}

export function observed(open: Open, clock: Clock, observe: ObserveExecution | undefined): Observation {
  const since = clock.now();
  const target = open.target.type;
  if (!isTracing())
    return { ended: (outcome, status) => observe?.({ target, outcome, status, took: clock.now() - since }) };
  const remote = parseTrace(open);
  const parent = remote ? trace.setSpanContext(ROOT_CONTEXT, remote) : ROOT_CONTEXT;
  const attributes: Attributes = {
    "http.request.method": open.method,
    "kas.request.id": open.requestId,
    "kas.target": target,
    "kas.impersonate": open.caller.as !== null,
  };
  const { span: served, context } = startChild("kas.agent.execute", SpanKind.SERVER, parent, attributes);
  const { span } = startChild(open.method, SpanKind.CLIENT, context, attributes);
  return {
    ended(outcome, status) {
      if (status > 0) span.setAttribute("http.response.status_code", status);
      if (outcome !== "ok") span.setStatus({ code: SpanStatusCode.ERROR, message: outcome });
      span.end();
      served.end();
      observe?.({ target, outcome, status, took: clock.now() - since });
    },
  };
}
