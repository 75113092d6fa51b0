/** The gRPC server of the agent listener: the tunnel that agents hold, and health. */
import type { Auth } from "../auth/auth.ts";
import { file_grpc_health_v1_health } from "../gen/grpc/health/v1/health_pb.ts";
import { healthMethods, type Readiness } from "../grpc/health.ts";
import { createGrpcServer, type GrpcServer } from "../grpc/server.ts";
import { openLink } from "../link/multiplexer.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { KasMetrics } from "../telemetry/metrics.ts";
import { agentTunnel, agentTunnelHandlers } from "./agent-tunnel.ts";
import type { ClusterNode } from "./cluster-node.ts";
import { helloOf } from "./greeting.ts";

/** An agent holds one call; a few more while it moves to another node. */
const LIMITS = { maxConcurrentStreams: 100, maxMessageBytes: 256 * 1024, maxSessionMiB: 32 };

export type AgentServerOptions = {
  readonly auth: Auth;
  readonly node: ClusterNode;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: KasMetrics;
  readonly readiness: Readiness;
  readonly bug: (error: unknown) => void;
};

export function createAgentServer(options: AgentServerOptions): GrpcServer {
  const { auth, node, clock, log, metrics, readiness, bug } = options;
  const handlers = agentTunnelHandlers({
    auth,
    clock,
    openLink,
    routing: node.routing,
    holder: node.holder,
    hello: (agent) => helloOf(node.identity, "", String(agent.agentId)),
    wallClock: Date.now,
    connects: (result) => metrics.agents.connects[result].inc(),
    disconnects: (reason) => metrics.agents.disconnects[reason].inc(),
    log,
  });
  return createGrpcServer({
    methods: healthMethods(readiness, [file_grpc_health_v1_health]),
    services: [{ definition: agentTunnel, handlers }],
    limits: LIMITS,
    bug,
  });
}
