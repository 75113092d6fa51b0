/** The one place where failures become statuses: gRPC codes, HTTP codes and Kubernetes `Status` bodies. */
import { Metadata, type StatusObject, status } from "@grpc/grpc-js";
import type { Failure, FailureCode } from "../actors/failure.ts";
import { Failed } from "./failed.ts";

type Mapping = {
  readonly grpc: status;
  readonly http: number;
  /** Kubernetes' `reason` for it; "" where Kubernetes has none. */
  readonly reason: string;
  /** Nothing ran, for certain: the caller may be told to try again. */
  readonly retry: boolean;
};

const STATUS = {
  unauthenticated: { grpc: status.UNAUTHENTICATED, http: 401, reason: "Unauthorized", retry: false },
  forbidden: { grpc: status.PERMISSION_DENIED, http: 403, reason: "Forbidden", retry: false },
  "agent-unknown": { grpc: status.NOT_FOUND, http: 404, reason: "NotFound", retry: false },
  invalid: { grpc: status.INVALID_ARGUMENT, http: 400, reason: "BadRequest", retry: false },
  "agent-offline": { grpc: status.UNAVAILABLE, http: 503, reason: "ServiceUnavailable", retry: true },
  "not-owner": { grpc: status.UNAVAILABLE, http: 503, reason: "ServiceUnavailable", retry: true },
  "node-gone": { grpc: status.UNAVAILABLE, http: 503, reason: "ServiceUnavailable", retry: true },
  draining: { grpc: status.UNAVAILABLE, http: 503, reason: "ServiceUnavailable", retry: true },
  busy: { grpc: status.RESOURCE_EXHAUSTED, http: 429, reason: "TooManyRequests", retry: true },
  "too-large": { grpc: status.RESOURCE_EXHAUSTED, http: 413, reason: "RequestEntityTooLarge", retry: false },
  deadline: { grpc: status.DEADLINE_EXCEEDED, http: 504, reason: "Timeout", retry: false },
  cancelled: { grpc: status.CANCELLED, http: 499, reason: "", retry: false },
  "outcome-unknown": { grpc: status.ABORTED, http: 502, reason: "", retry: false },
  "upstream-unreachable": { grpc: status.UNAVAILABLE, http: 502, reason: "", retry: false },
  "cluster-unavailable": { grpc: status.UNAVAILABLE, http: 503, reason: "ServiceUnavailable", retry: true },
  protocol: { grpc: status.INTERNAL, http: 502, reason: "", retry: false },
  internal: { grpc: status.INTERNAL, http: 500, reason: "InternalError", retry: false },
} as const satisfies Record<FailureCode, Mapping>;

/** Seconds after which a caller may come back, where nothing ran. */
const RETRY_AFTER_SECONDS = 1;

export const httpStatus = (code: FailureCode): number => STATUS[code].http;
export const mayRetry = (code: FailureCode): boolean => STATUS[code].retry;

/** What anything thrown means to a caller: a failure as it is, anything else `internal` with its text withheld. */
export const failureOf = (error: unknown): Failure =>
  error instanceof Failed ? error.failure : { code: "internal", reason: "internal error" };

const withTrace = (reason: string, traceId: string) => (traceId ? `${reason}. Trace ID: ${traceId}` : reason);

/** gRPC status with a `failure-code` trailer, so that nobody takes it for the agent's own answer. */
export function grpcStatus({ code, reason }: Failure, traceId = ""): StatusObject {
  const metadata = new Metadata();
  metadata.set("failure-code", code);
  if (traceId) metadata.set("x-kas-trace-id", traceId);
  if (STATUS[code].retry) metadata.set("grpc-retry-pushback-ms", String(RETRY_AFTER_SECONDS * 1000));
  return { code: STATUS[code].grpc, details: withTrace(reason, traceId), metadata };
}

export type HttpFailure = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
};

/**
 * A Kubernetes `Status` object, which kubectl prints as it prints the API server's own. `http` only where HTTP itself has a
 * closer status (408, 431).
 */
export function httpFailure({ code, reason }: Failure, traceId = "", http: number = STATUS[code].http): HttpFailure {
  const { reason: kubernetesReason, retry } = STATUS[code];
  const body = JSON.stringify({
    kind: "Status",
    apiVersion: "v1",
    metadata: {},
    status: "Failure",
    message: `kas: ${withTrace(reason, traceId)}`,
    ...(kubernetesReason && { reason: kubernetesReason }),
    code: http,
  });
  const headers: Record<string, string> = {
    "content-type": "application/json",
    "content-length": String(Buffer.byteLength(body)),
    "failure-code": code,
  };
  if (traceId) headers["x-kas-trace-id"] = traceId;
  if (retry) headers["retry-after"] = String(RETRY_AFTER_SECONDS);
  if (http === 401) headers["gitlab-unauthorized"] = "true";
  return { status: http, headers, body };
}
