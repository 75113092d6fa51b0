/** What is kept of one request: its trace, its audit record and its metrics. Finished exactly once, however it ends. */
import { SpanStatusCode } from "@opentelemetry/api";
import type { Millis } from "../../actors/actor.ts";
import type { Failure, FailureCode } from "../../actors/failure.ts";
import type { AgentId } from "../../actors/ids.ts";
import type { Route } from "../cluster/router.ts";
import type { Caller } from "../link/messages.ts";
import { type KubernetesVerb, kubernetesVerb, type MethodClass } from "./kubernetes-verb.ts";
import type { RequestTrace } from "./trace.ts";

export type Outcome = "ok" | "client_error" | "upstream_error" | "agent_error" | "no_agent" | "kas_error";

/** As ALPN names them. */
export type Protocol = "http/1.1" | "h2";

export interface ProxyMetrics {
  request(methodClass: MethodClass, outcome: Outcome, seconds: number): void;
}

/** One per request, for audit: no names from the path, no query, no token. */
export type AccessRecord = {
  readonly traceId: string;
  readonly requestId: string;
  readonly agentId: AgentId | 0;
  readonly callerKind: Caller["kind"] | "";
  readonly callerId: string;
  /** User impersonated; "" for the agent itself. */
  readonly as: string;
  readonly protocol: Protocol;
  readonly method: string;
  /** "kubernetes", or the name of the in-cluster service. */
  readonly target: string;
  readonly verb: string;
  readonly resource: string;
  readonly upgrade: boolean;
  /** As sent to the caller; 0: none was. */
  readonly status: number;
  readonly outcome: Outcome;
  readonly failure: FailureCode | "";
  readonly reason: string;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly durationMillis: Millis;
  readonly hop: Route["hop"] | "";
  readonly node: string;
};

export interface ProxyLog {
  access(record: AccessRecord): void;
  /** Something threw that should not have. */
  bug(error: unknown, traceId: string): void;
}

const OUTCOMES: Partial<Record<FailureCode, Outcome>> = {
  unauthenticated: "client_error",
  forbidden: "client_error",
  "agent-unknown": "client_error",
  invalid: "client_error",
  "too-large": "client_error",
  cancelled: "client_error",
  "agent-offline": "no_agent",
  "node-gone": "agent_error",
  "outcome-unknown": "agent_error",
  protocol: "agent_error",
  "upstream-unreachable": "upstream_error",
};

export class RequestRecord {
  readonly trace: RequestTrace;
  readonly #method: string;
  readonly #protocol: Protocol;
  readonly #began: Millis;
  agentId: AgentId | 0 = 0;
  caller: Caller | null = null;
  target = "";
  path = "";
  upgrade = false;
  status = 0;
  bytesIn = 0;
  bytesOut = 0;
  requestId = "";
  route: Route | null = null;
  failure: Failure | null = null;

  constructor(method: string, protocol: Protocol, trace: RequestTrace, now: Millis) {
    this.#method = method;
    this.#protocol = protocol;
    this.trace = trace;
    this.#began = now;
  }

  finish(now: Millis, log: ProxyLog, metrics: ProxyMetrics): void {
    const { verb, resource, methodClass } = this.#verb();
    const record = this.#record(now, verb, resource);
    metrics.request(methodClass, record.outcome, record.durationMillis / 1_000);
    this.#endSpan(record);
    log.access(record);
  }

  #verb(): KubernetesVerb {
    if (this.target === "kubernetes") return kubernetesVerb(this.#method, this.path);
    return { verb: this.#method.toLowerCase(), resource: "", methodClass: "other" };
  }

  #record(now: Millis, verb: string, resource: string): AccessRecord {
    return {
      traceId: this.trace.traceId,
      requestId: this.requestId,
      agentId: this.agentId,
      callerKind: this.caller?.kind ?? "",
      callerId: this.caller?.id ?? "",
      as: this.caller?.as?.user ?? "",
      protocol: this.#protocol,
      method: this.#method,
      target: this.target,
      verb,
      resource,
      upgrade: this.upgrade,
      status: this.status,
      outcome: this.#outcome(),
      failure: this.failure?.code ?? "",
      reason: this.failure?.reason ?? "",
      bytesIn: this.bytesIn,
      bytesOut: this.bytesOut,
      durationMillis: now - this.#began,
      hop: this.route?.hop ?? "",
      node: this.route?.node ?? "",
    };
  }

  /** A caller who leaves a running answer (a watch, say) is no error. */
  #outcome(): Outcome {
    const served = this.status > 0 && this.failure?.code === "cancelled";
    if (this.failure && !served) return OUTCOMES[this.failure.code] ?? "kas_error";
    if (this.status >= 500) return "upstream_error";
    return this.status >= 400 ? "client_error" : "ok";
  }

  #endSpan(record: AccessRecord): void {
    const { span } = this.trace;
    if (span.isRecording()) {
      span.setAttributes({
        "http.request.method": record.method,
        "network.protocol.version": record.protocol === "h2" ? "2" : "1.1",
        "http.response.status_code": record.status,
        "kas.agent.id": record.agentId,
        "kas.caller.type": record.callerKind,
        "k8s.verb": record.verb,
        "k8s.resource": record.resource,
        "kas.request.bytes": record.bytesIn,
        "kas.response.bytes": record.bytesOut,
      });
      if (record.failure) span.setAttribute("error.type", record.failure);
      if (record.outcome !== "ok" && record.outcome !== "client_error") {
        span.setStatus({ code: SpanStatusCode.ERROR, message: record.failure });
      }
    }
    span.end();
  }
}
