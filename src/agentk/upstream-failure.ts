/** What an upstream's error means to the caller. The one question that matters: can the request have run? */
import { type Failure, failure } from "../../actors/failure.ts";
import { Failed } from "../failed.ts";
import type { Reset } from "../link/stream.ts";
import type { Upstream } from "./upstream.ts";

/** `before` the request was handed to a connection nothing was sent; after that it may have run. */
export type Progress = "before" | "sent" | "answering";

const REQUEST_FAULTS = new Set(["UND_ERR_INVALID_ARG", "UND_ERR_NOT_SUPPORTED", "UND_ERR_REQ_CONTENT_LENGTH_MISMATCH"]);
const STOPPING = new Set(["UND_ERR_DESTROYED", "UND_ERR_CLOSED"]);

const codeOf = (error: unknown): string => {
  const code: unknown = error instanceof Error && "code" in error ? error.code : "";
  return typeof code === "string" ? code : "";
};
const textOf = (error: unknown): string => codeOf(error) || (error instanceof Error ? error.message : String(error));

export function upstreamReset(error: unknown, progress: Progress, upstream: Upstream): Reset {
  if (error instanceof Failed) return { failure: error.failure, unprocessed: false };
  const code = codeOf(error);
  if (progress === "before" && STOPPING.has(code)) {
    return { failure: failure("draining", "this agent is stopping"), unprocessed: true };
  }
  return { failure: upstreamFailure(error, code, progress, upstream), unprocessed: false };
}

function upstreamFailure(error: unknown, code: string, progress: Progress, upstream: Upstream): Failure {
  if (REQUEST_FAULTS.has(code)) {
    const why = error instanceof Error ? error.message : code;
    return failure("invalid", `the agent cannot send this request to ${upstream.title}: ${why}`);
  }
  if (code === "UND_ERR_HEADERS_OVERFLOW") {
    return failure("too-large", `the headers of the answer of ${upstream.title} exceed 64 KiB`);
  }
  switch (progress) {
    case "before":
      // Nothing was sent, which would be proof. It is not claimed: every connection of this agent leads to the same
      // upstream, and the caller would wait its whole deadline while kas tried one after the other.
      return failure(
        "upstream-unreachable",
        `the agent could not connect to ${upstream.title} (${textOf(error)}), nothing was sent: ${upstream.advice}`,
      );
    case "sent":
      return failure(
        "outcome-unknown",
        `the connection from the agent to ${upstream.title} broke before it answered (${textOf(error)}): it may have executed the request, look before you repeat it`,
      );
    case "answering":
      return failure(
        "outcome-unknown",
        `the connection from the agent to ${upstream.title} broke in the middle of the answer (${textOf(error)}): the request was executed, the answer is incomplete`,
      );
  }
}
