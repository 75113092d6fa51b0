/** Answers what node:http could not read as a request: a status, a reason one can act on, a trace id, and the end. */
import type { Socket } from "node:net";
import { type Failure, failure } from "../../actors/failure.ts";
import { httpFailure } from "../status.ts";
import { RequestRecord } from "./request-record.ts";
import { beginTrace, type RequestTrace } from "./trace.ts";
import { rawHead } from "./upgrade.ts";
import type { VisitContext } from "./visit.ts";
import type { Verdict } from "./wire.ts";

function verdictOf(fault: NodeJS.ErrnoException | Failure, { limits }: VisitContext): Verdict {
  if ("reason" in fault && !(fault instanceof Error)) return { failure: fault, status: 400 };
  switch (fault.code) {
    case "HPE_HEADER_OVERFLOW":
      return tooLargeHeaders(limits);
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return {
        failure: failure("deadline", `the request's headers did not come within ${limits.headersTimeout} ms`),
        status: 408,
      };
    default:
      return {
        failure: failure("invalid", `bad request: it is not valid HTTP/1.1 (${fault.code ?? "?"})`),
        status: 400,
      };
  }
}

export const tooLargeHeaders = ({ maxHeaderBytes }: VisitContext["limits"]): Verdict => ({
  failure: failure("too-large", `the request's headers are larger than ${maxHeaderBytes} bytes: send fewer`),
  status: 431,
});

/** A record as for any request, of what was none. */
export function recordRefusal({ failure, status }: Verdict, context: VisitContext): RequestTrace {
  const trace = beginTrace(context.tracer, "");
  const record = new RequestRecord("", context.protocol, trace, context.clock.now());
  record.failure = failure;
  record.status = status;
  record.finish(context.clock.now(), context.log, context.metrics);
  return trace;
}

/** Ends the socket either way; a record is written as for any request. */
export function refuseBytes(socket: Socket, fault: NodeJS.ErrnoException | Failure, context: VisitContext): void {
  const verdict = verdictOf(fault, context);
  const trace = recordRefusal(verdict, context);
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const { headers, body } = httpFailure(verdict.failure, trace.traceId, verdict.status);
  const flat = Object.entries(headers).flat();
  socket.write(`${rawHead(verdict.status, [...flat, "connection", "close"])}${body}`, "utf8");
  socket.destroySoon();
}
