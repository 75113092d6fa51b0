/** The observability listener's HTTP server: metrics, probes and the JSON resources for operators. */
import { createServer } from "node:http";
import type { Socket } from "node:net";
import type { Auth } from "../auth/auth.ts";
import type { KasConfig } from "../config/kas.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { KasMetrics } from "../telemetry/metrics.ts";
import { observabilityHandler } from "../telemetry/observability-server.ts";
import type { ClusterNode } from "./cluster-node.ts";
import type { Readiness } from "./readiness.ts";
import { resources } from "./resources.ts";

export type ObserveOptions = {
  readonly config: KasConfig;
  readonly metrics: KasMetrics;
  readonly readiness: Readiness;
  readonly log: Logger;
  readonly auth: Auth;
  readonly node: ClusterNode;
};

export function observe({ config, metrics, readiness, log, auth, node }: ObserveOptions) {
  const { prometheus, liveness_probe, readiness_probe } = config.observability;
  const handler = observabilityHandler({
    registry: metrics.registry,
    readiness: () => readiness.probe(),
    alive: () => metrics.alive(),
    paths: { metrics: prometheus.url_path, liveness: liveness_probe.url_path, readiness: readiness_probe.url_path },
    routes: resources({ auth, node }),
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
