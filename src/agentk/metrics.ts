/** What agentk counts, by Prometheus name. Labels are closed lists: no path, user or service name ever becomes one. */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { FailureCode } from "../../actors/failure.ts";
import type { ObserveExecution } from "./observation.ts";

export interface AgentMetrics {
  readonly executed: ObserveExecution;
  disconnected(code: FailureCode): void;
  tokenReloaded(): void;
}

export function createMetrics(registry: Registry, links: () => { readonly connected: boolean }): AgentMetrics {
  const registers = [registry];
  const requests = new Counter({
    name: "agentk_upstream_requests_total",
    help: "Requests executed, by kind of upstream, outcome and status class (0: no answer)",
    labelNames: ["target", "outcome", "code"] as const,
    registers,
  });
  const duration = new Histogram({
    name: "agentk_upstream_duration_seconds",
    help: "From a request's arrival at this agent to the end of its answer; upgrades and watches included",
    labelNames: ["target"] as const,
    buckets: [0.005, 0.025, 0.1, 0.5, 2, 10, 60],
    registers,
  });
  const reconnects = new Counter({
    name: "agentk_reconnects_total",
    help: "Links to kas that ended or could not be made, by why",
    labelNames: ["code"] as const,
    registers,
  });
  const reloads = new Counter({
    name: "agentk_token_reload_total",
    help: "Times a rotated API server token was taken over",
    registers,
  });
  new Gauge({
    name: "agentk_kas_connected",
    help: "1 while kas can reach this agent",
    registers,
    collect() {
      this.set(links().connected ? 1 : 0);
    },
  });
  return {
    executed({ target, outcome, status, took }) {
      requests.inc({ target, outcome, code: status === 0 ? "0" : `${Math.floor(status / 100)}xx` });
      duration.observe({ target }, took / 1_000);
    },
    disconnected: (code) => reconnects.inc({ code }),
    tokenReloaded: () => reloads.inc(),
  };
}
