/** The observability listener's HTTP server: metrics, probes and the JSON resources for operators. */
import { createServer, type IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Auth } from "../auth/auth.ts";
import type { KasConfig } from "../config/kas.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { KasMetrics } from "../telemetry/metrics.ts";
import { observabilityHandler } from "../telemetry/observability-server.ts";
import type { ClusterNode } from "./cluster-node.ts";
import type { Operations } from "./operations.ts";
import type { Readiness } from "./readiness.ts";
import { resources } from "./resources.ts";
import { CALLER_ADDRESS } from "./workers/message.ts";

export type ObserveOptions = {
  readonly config: KasConfig;
  readonly metrics: KasMetrics;
  readonly readiness: Readiness;
  readonly log: Logger;
  readonly auth: Auth;
  readonly node: ClusterNode;
  readonly operations: Operations;
  /** A supervisor asks on behalf of others. */
  readonly behind: boolean;
};

export function observe({ config, metrics, readiness, log, auth, node, operations, behind }: ObserveOptions) {
  const { prometheus, liveness_probe, readiness_probe } = config.observability;
  const handler = observabilityHandler({
    registry: metrics.registry,
    readiness: () => readiness.probe(),
    alive: () => metrics.alive(),
    paths: { metrics: prometheus.url_path, liveness: liveness_probe.url_path, readiness: readiness_probe.url_path },
    routes: resources({ auth, node, operations, log }),
    problem: (message, err) => log.error(message, { err }),
  });
  const server = createServer({ headersTimeout: 10_000, requestTimeout: 30_000 }, (req, res) => {
    if (behind) nameCaller(req);
    handler(req, res);
  });
  return {
    onSocket: (socket: Socket) => void server.emit("connection", socket),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
    },
  };
}

/** Every socket of a supervisor comes from this machine: whoever it asks for counts as the caller. */
function nameCaller({ socket, headers }: IncomingMessage): void {
  const value = headers[CALLER_ADDRESS];
  if (typeof value === "string") Object.defineProperty(socket, "remoteAddress", { value, configurable: true });
}
