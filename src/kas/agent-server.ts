/** What answers on the agent listener: the tunnel that agents hold, and health, over gRPC alone or inside WebSockets. */
import type { Socket } from "node:net";
import type { Auth } from "../auth/auth.ts";
import { file_grpc_health_v1_health } from "../gen/grpc/health/v1/health_pb.ts";
import { healthMethods, type Readiness } from "../grpc/health.ts";
import { createGrpcServer, type GrpcServer } from "../grpc/server.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { KasMetrics } from "../telemetry/metrics.ts";
import { AgentSockets } from "./agent-sockets.ts";
import { agentTunnel, agentTunnelHandlers } from "./agent-tunnel.ts";
import type { ClusterNode } from "./cluster-node.ts";
import { helloOf } from "./greeting.ts";

/** An agent holds one call; a few more while it moves to another node. Whose call has ended closes its connection itself. */
const LIMITS = { maxConcurrentStreams: 100, maxMessageBytes: 256 * 1024, maxSessionMiB: 32, maxIdleMs: 5_000 };

export type AgentServerOptions = {
  readonly auth: Auth;
  readonly node: ClusterNode;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: KasMetrics;
  readonly readiness: Readiness;
  readonly bug: (error: unknown) => void;
};

/** What answers on the agent listener: a gRPC server, and another for the sockets inside WebSockets where they are on. */
export function createAgentListener(options: AgentServerOptions, websocket: boolean) {
  const owned = new AsyncDisposableStack();
  const grpc = owned.use(createAgentServer(options, "grpc"));
  const inWebsockets = websocket ? owned.use(createAgentServer(options, "websocket")) : null;
  const sockets = owned.use(new AgentSockets({ clock: options.clock, grpc, websocket: inWebsockets }));
  return {
    alpnProtocols: sockets.alpnProtocols,
    onSocket: (socket: Socket, alpn: string) => sockets.onSocket(socket, alpn),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function createAgentServer(options: AgentServerOptions, transport: "grpc" | "websocket"): GrpcServer {
  const { auth, node, clock, log, metrics, readiness, bug } = options;
  const handlers = agentTunnelHandlers({
    auth,
    clock,
    openLink: node.links.opener("agent"),
    transport,
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
