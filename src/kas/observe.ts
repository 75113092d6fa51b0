/** The observability listener's HTTP server: metrics and probes. */
import { createServer } from "node:http";
import type { Socket } from "node:net";
import type { KasConfig } from "../config/kas.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { KasMetrics } from "../telemetry/metrics.ts";
import { observabilityHandler } from "../telemetry/observability-server.ts";
import type { Readiness } from "./readiness.ts";

export type ObserveOptions = {
  readonly config: KasConfig;
  readonly metrics: KasMetrics;
  readonly readiness: Readiness;
  readonly log: Logger;
};

export function observe({ config, metrics, readiness, log }: ObserveOptions) {
  const { prometheus, liveness_probe, readiness_probe } = config.observability;
  const handler = observabilityHandler({
    registry: metrics.registry,
    readiness: () => readiness.probe(),
    alive: () => metrics.alive(),
    paths: { metrics: prometheus.url_path, liveness: liveness_probe.url_path, readiness: readiness_probe.url_path },
    problem: (message, err) => log.error(message, { err }),
  });
  const server = createServer({ headersTimeout: 10_000, requestTimeout: 30_000 }, handler);
  return {
    onSocket: (socket: Socket) => void server.emit("connection", socket),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
    },
  };
}
