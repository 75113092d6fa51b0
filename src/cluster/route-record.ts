/** How a request was routed, told to its span and to the metrics exactly once: accepted at some attempt, or never. */
import { type Context, type Span, SpanKind, SpanStatusCode } from "@opentelemetry/api";
import type { Millis } from "../../actors/actor.ts";
import type { FailureCode } from "../../actors/failure.ts";
import { startChild } from "../trace.ts";
import type { IngressOptions } from "./ingress-options.ts";
import type { Route, RouteRequest } from "./router.ts";

export class RouteRecord {
  readonly started: Millis;
  /** Parent of what the attempts do. */
  readonly trace: Context;
  readonly #options: Pick<IngressOptions, "clock" | "metrics">;
  readonly #span: Span;
  #told = false;

  constructor(options: Pick<IngressOptions, "clock" | "metrics">, { agentId, trace }: RouteRequest) {
    this.#options = options;
    this.started = options.clock.now();
    const { span, context } = startChild("kas.route", SpanKind.INTERNAL, trace, { "kas.agent.id": agentId });
    this.#span = span;
    this.trace = context;
  }

  get took(): Millis {
    return this.#options.clock.now() - this.started;
  }

  accepted({ hop, attempts, took }: Route): void {
    if (this.#told) return;
    this.#told = true;
    this.#options.metrics.routed(hop, took, attempts);
    this.#span.setAttribute("kas.route.result", hop).setAttribute("kas.route.attempts", attempts).end();
  }

  failed(code: FailureCode, attempts: number): void {
    if (this.#told) return;
    this.#told = true;
    this.#options.metrics.unrouted(code, this.took, attempts);
    this.#span.setStatus({ code: SpanStatusCode.ERROR, message: code }).setAttribute("kas.route.result", code).end();
  }
}
