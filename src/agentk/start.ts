/**
 * agentk put together: upstreams, executor, connector and the observability listener. What was started is stopped in
 * reverse order, also when a later part cannot start.
 */
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { failure } from "../../actors/failure.ts";
import { creditPool } from "../../actors/pool.ts";
import { formatAddress } from "../config/address.ts";
import type { AgentkConfig, AgentkOptions, RunningAgentk } from "../config/agentk.ts";
import { Failed } from "../failed.ts";
import { openLink } from "../link/multiplexer.ts";
import { listen } from "../net/listener.ts";
import { type Clock, systemClock } from "../runtime/clock.ts";
import { type AgentMetrics, createAgentMetrics } from "../telemetry/agent-metrics.ts";
import { createLogger, type Logger } from "../telemetry/logger.ts";
import { type ObservabilityOptions, observabilityHandler } from "../telemetry/observability-server.ts";
import { startTracing } from "../telemetry/tracing.ts";
import { VERSION } from "../version.ts";
import { Connector } from "./connector.ts";
import { createDial } from "./dial.ts";
import { createExecutor } from "./executor.ts";
import { builtInMethods, createGrpcMethods } from "./grpc-methods.ts";
import { type ApiServer, inCluster, readKubeconfig } from "./kubernetes.ts";
import { readToken, TokenFile } from "./token-file.ts";
import { apiServerUpstream, type Credential, createUpstreams } from "./upstream.ts";

/** `true` adds `/kas.agent.v1.Echo/Echo`, by which raw gRPC routing can be tested end to end. */
const ECHO = "AGENTK_ENABLE_ECHO";

/** What the bodies of requests may take here, whose upstreams are slow. */
const MEMORY = { growth: 16 * 2 ** 20, perAgent: 8 * 2 ** 20, hard: 64 * 2 ** 20 };

export async function startAgentk({ config, env, stdout }: AgentkOptions): Promise<RunningAgentk> {
  await using started = new AsyncDisposableStack();
  const clock = systemClock;
  const identity = identityOf(config);
  const log = started.use(createLogger({ level: config.logLevel, bindings: { service: "agentk" } }));
  const warn = (message: string, err?: unknown) => log.warn(message, { err });
  const { instance, version } = identity;
  started.use(await startTracing({ service: "agentk", instance, version, env, warn }));

  let connector: Connector | null = null;
  const isConnected = () => connector?.isConnected ?? false;
  const metrics = started.use(createAgentMetrics({ version }));
  metrics.onCollect(() => {
    metrics.kasConnected.set(isConnected() ? 1 : 0);
    metrics.streamsActive.set(connector?.streams ?? 0);
  });
  const server = config.kubeconfig === null ? inCluster(env) : readKubeconfig(config.kubeconfig, config.context);
  const credential = started.use(credentialOf(server, clock, metrics, log));
  const upstreams = started.use(createUpstreams(apiServerUpstream(server, credential), config.services));
  const methods = createGrpcMethods(builtInMethods({ echo: env[ECHO] === "true" }));
  const execute = createExecutor({
    upstreams,
    methods,
    clock,
    observe({ status, took }) {
      metrics.upstreamAnswered(status);
      metrics.upstreamDuration.observe(took / 1000);
    },
  });
  const dial = createDial(config.kas, tokenOf(config), version);

  const { maxStreams } = config;
  const pool = creditPool(MEMORY);
  const readiness = () => readinessOf(isConnected());
  await serveObservability(started, config, log, {
    registry: metrics.registry,
    readiness,
    alive: () => metrics.alive(),
  });
  const running = new Connector({
    dial,
    openLink: (options) => openLink({ ...options, pool, limits: { maxStreams, maxCtlBytes: 0 } }),
    execute: (open, stream) => {
      const active = connector?.streams ?? 0;
      if (active > maxStreams) throw new Failed(full(maxStreams));
      return execute(open, stream);
    },
    clock,
    random: Math.random,
    identity,
    services: [...config.services.keys()],
    backoffInitial: config.timings.backoffInitial,
    backoffMax: config.timings.backoffMax,
    log,
    connected: ({ agentId, node }) => stdout(JSON.stringify({ msg: "connected", agent_id: agentId, node })),
    disconnected: () => metrics.reconnects.inc(),
  });
  connector = running;
  started.defer(() => running.stop());
  const all = started.move();
  return {
    drain: () => running.drain(config.timings.drainTimeout),
    stop: () => all.disposeAsync(),
  };
}

const full = (most: number) =>
  failure("busy", `this agentk has ${most} of ${most} streams in use: run more replicas, or set AGENTK_MAX_STREAMS`);

const readinessOf = (connected: boolean) =>
  connected
    ? { ready: true, phase: "connected", reason: "" }
    : { ready: false, phase: "connecting", reason: "not connected to kas; the log says why" };

function identityOf({ instance }: AgentkConfig) {
  const process = randomBytes(8).toString("hex");
  return { instance: instance ?? `random/${process}`, process, version: VERSION };
}

function tokenOf({ token }: AgentkConfig): () => string {
  return token.type === "file" ? () => readToken(token.path) : () => token.value;
}

function credentialOf(
  { credential }: ApiServer,
  clock: Clock,
  metrics: AgentMetrics,
  log: Logger,
): Credential & Disposable {
  const fixed = (value: string) => ({ value, renew() {}, [Symbol.dispose]() {} });
  switch (credential.type) {
    case "none":
      return fixed("");
    case "fixed":
      return fixed(credential.value);
    case "token-file": {
      const changed = () => {
        metrics.tokenReloads.inc();
        log.info("a new token for the Kubernetes API server was read", { file: credential.path });
      };
      const file = new TokenFile({ path: credential.path, clock, changed });
      return {
        get value() {
          return `Bearer ${file.value}`;
        },
        renew: () => file.renew(),
        [Symbol.dispose]: () => file[Symbol.dispose](),
      };
    }
  }
}

async function serveObservability(
  started: AsyncDisposableStack,
  { observability }: AgentkConfig,
  log: Logger,
  options: Pick<ObservabilityOptions, "registry" | "readiness" | "alive">,
): Promise<void> {
  const handler = observabilityHandler({
    ...options,
    problem: (message, err) => log.error(message, { err }),
  });
  const server = createServer(handler);
  const { certificateFile, keyFile } = observability;
  const listener = await listen({
    name: "observability",
    address: formatAddress(observability.listen),
    ...(certificateFile && keyFile && { tls: { certificateFile, keyFile } }),
    onSocket: (socket) => void server.emit("connection", socket),
  });
  started.use(listener);
  log.info("listening", { listener: "observability", address: listener.address });
}
