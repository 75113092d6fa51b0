/**
 * The composition root of the server: everything a node consists of, started in order, and taken down in the reverse order.
 * A `listening` line on stdout says that a listener takes sockets; readiness says that the node has joined.
 */
import { readFileSync } from "node:fs";
import { trace } from "@opentelemetry/api";
import type { Auth } from "../auth/auth.ts";
import { JwtVerifier } from "../auth/jwt.ts";
import { readSecrets, type Secrets } from "../auth/secret-file.ts";
import { openStaticAuth } from "../auth/static.ts";
import type { Bus } from "../bus/bus.ts";
import { formatAddress } from "../config/address.ts";
import type { KasConfig } from "../config/kas.ts";
import { Failed, failed } from "../failed.ts";
import { createGateway } from "../gateway/gateway.ts";
import { widenServerWindows } from "../link/carriers/server-window.ts";
import { createProxy } from "../proxy/proxy.ts";
import { type Clock, systemClock } from "../runtime/clock.ts";
import { createLogger, type RootLogger } from "../telemetry/logger.ts";
import { createMetrics, type KasMetrics } from "../telemetry/metrics.ts";
import { startTracing } from "../telemetry/tracing.ts";
import { VERSION } from "../version.ts";
import { accessFields } from "./access-log.ts";
import { AgentMoves } from "./agent-moves.ts";
import { createAgentListener } from "./agent-server.ts";
import { type ClusterNode, createClusterNode } from "./cluster-node.ts";
import { Drain } from "./drain.ts";
import { Listeners } from "./listeners.ts";
import { observe } from "./observe.ts";
import { createOperations, type Operations, rebalanceMethod } from "./operations.ts";
import { Readiness } from "./readiness.ts";
import { Rebalancer } from "./rebalancer.ts";

export type StartOptions = {
  readonly config: KasConfig;
  readonly warnings: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: (line: string) => void;
  /** Instead of NATS, for several nodes in one process. */
  readonly bus?: Bus;
  /** False for all but one of several nodes in one process. */
  readonly wholeProcess?: boolean;
  /** One of several processes that share the listeners of agents and callers; `replaces`: the others take sockets already. */
  readonly worker?: { readonly replaces: boolean };
};

export type RunningKas = {
  /** Settles when the node ended by itself; rejects when it must not go on (its name is taken, a newer process has it). */
  readonly drained: Promise<void>;
  readonly readiness: Pick<Readiness, "probe" | "onChange">;
  drain(): Promise<void>;
  stop(): Promise<void>;
};

const readFile = (path: string): string => readFileSync(path, "utf8");

export async function startKas(options: StartOptions): Promise<RunningKas> {
  const { config, warnings, env, stdout, worker } = options;
  const clock = systemClock;
  await using starting = new AsyncDisposableStack();
  const log = starting.use(
    createLogger({ level: config.observability.logging.level, bindings: { node: config.node.name } }),
  );
  for (const warning of warnings) log.warn(warning);
  const warn = (message: string, err?: unknown) => log.warn(message, { err });
  starting.use(await startTracing({ service: "kas", instance: config.node.name, version: VERSION, env, warn }));
  const { wholeProcess = true } = options;
  const metrics = starting.use(createMetrics({ node: config.node.name, version: VERSION, wholeProcess }));
  starting.use(widenServerWindows());
  const auth = starting.use(await openAuth(config, clock, log));
  const secrets = secretsOf(config.private_api?.listen.authentication_secret_file);
  const ended = Promise.withResolvers<void>();
  ended.promise.catch(() => {});
  const listeners = starting.use(new Listeners({ config, clock, log, stdout, metrics, shared: worker !== undefined }));

  let node: ClusterNode | null = null;
  const address = await privateAddress(config, listeners, (socket) => (node ? node.accept(socket) : socket.destroy()));
  node = starting.use(
    createClusterNode({
      config,
      version: VERSION,
      clock,
      wallClock: Date.now,
      log,
      metrics,
      address,
      secrets,
      tls: peerTls(config),
      ...(options.bus && { bus: options.bus }),
      mayExist: (agent) => auth.mayExist(agent),
      deposed: (reason) => ended.reject(new Failed(reason)),
    }),
  );
  const readiness = starting.use(
    new Readiness({
      routing: node.routing,
      nats: () => node?.natsConnected ?? null,
      clock,
      natsAwayAfter: config.timings.nats_away_after,
    }),
  );
  const { routing, holder } = node;
  const moves = new AgentMoves({ holder, routing, wallClock: Date.now, seed: Math.floor(Math.random() * 2 ** 32) });
  const rebalancer = starting.use(openRebalancer(config, clock, log, node, moves));
  let drain: Drain | null = null;
  const operations = createOperations({ clock, node, drain: () => drain, rebalancer });
  const joining = () => join(routing, readiness, log);
  if (worker?.replaces) await joining();
  const behind = worker !== undefined;
  const servers = await serve({ config, clock, log, metrics, auth, node, listeners, readiness, operations, behind });
  starting.adopt(servers, (all) => all.stop());
  starting.use(auth.onRevoked((tokens) => node.holder.revoke(tokens)));
  if (!worker?.replaces) joining().catch(ended.reject);

  const draining = starting.use(new Drain({ config, clock, log, node, readiness, listeners, metrics, servers, moves }));
  drain = draining;
  const owned = starting.move();
  return {
    drained: ended.promise,
    readiness,
    drain: () => draining.run(),
    stop: () => owned.disposeAsync(),
  };
}

function openRebalancer(
  { limits, timings, agent }: KasConfig,
  clock: Clock,
  log: RootLogger,
  { routing, methods }: ClusterNode,
  moves: AgentMoves,
): Rebalancer {
  const rebalancer = new Rebalancer({
    clock,
    log,
    routing,
    moves,
    perSecond: limits.agent_moves_per_second,
    after: timings.rebalance_after,
    maxConnectionAge: agent.listen.max_connection_age,
  });
  methods.set(...rebalanceMethod(rebalancer));
  return rebalancer;
}

async function join(routing: ClusterNode["routing"], readiness: Readiness, log: RootLogger): Promise<void> {
  await routing.join();
  readiness.changed();
  log.info("joined", { self: routing.self, members: routing.members().length });
}

type Parts = {
  readonly config: KasConfig;
  readonly clock: Clock;
  readonly log: RootLogger;
  readonly metrics: KasMetrics;
  readonly auth: Auth;
  readonly node: ClusterNode;
  readonly listeners: Listeners;
  readonly readiness: Readiness;
  readonly operations: Operations;
  /** A supervisor asks on behalf of others. */
  readonly behind: boolean;
};

/** What answers on the listeners. */
export type Servers = {
  /** New calls go elsewhere: GOAWAY, `Connection: close`. */
  drain(): void;
  /** Requests of callers under way here. */
  active(): number;
  stop(): Promise<void>;
};

async function serve(parts: Parts): Promise<Servers> {
  const { config, clock, log, metrics, auth, node, listeners, readiness } = parts;
  const owned = new AsyncDisposableStack();
  const bug = (err: unknown) => log.error("a call failed with an error of ours", { err });
  const tracer = trace.getTracer("kas");
  const agents = owned.use(createAgentListener({ ...parts, bug }, config.agent.listen.websocket));
  const tokens = new JwtVerifier(apiSecrets(config), Date.now);
  const gateway = owned.use(
    createGateway({
      router: node.router,
      directory: node.directory,
      readiness,
      tokens,
      tracer,
      clock,
      bug,
      metrics: { called: metrics.rpc },
    }),
  );
  const { kubernetes_api, listen: agentListen } = config.agent;
  const proxy = owned.use(
    createProxy({
      router: node.router,
      access: auth,
      tracer,
      clock,
      version: VERSION,
      urlPathPrefix: kubernetes_api.url_path_prefix,
      allowedOrigins: config.gitlab?.external_url ? [new URL(config.gitlab.external_url).origin] : [],
      limits: {
        acceptWithin: config.timings.accept_within,
        uploadStalled: config.timings.stalled_upload_after,
        upgradeStalled: config.timings.stalled_upgrade_after,
      },
      metrics: {
        request(methodClass, outcome, seconds) {
          metrics.proxy.requests[methodClass][outcome].inc();
          metrics.proxy.duration[methodClass][outcome].observe(seconds);
        },
      },
      log: {
        access: (record) => log.record("request", accessFields(record)),
        bug: (err, traceId) => log.error("a request failed with an error of ours", { err, trace_id: traceId }),
      },
    }),
  );
  const observability = owned.use(observe(parts));
  await listeners.open("agent", agentListen, (s, alpn) => agents.onSocket(s, alpn), agents.alpnProtocols);
  if (config.api) await listeners.open("api", config.api.listen, (socket) => gateway.inject(socket), ["h2"]);
  await listeners.open(
    "kubernetes_api",
    kubernetes_api.listen,
    (s, alpn) => proxy.onSocket(s, alpn),
    proxy.alpnProtocols,
  );
  await listeners.open("observability", config.observability.listen, (socket) => observability.onSocket(socket));
  return {
    drain() {
      proxy.drain();
      void gateway.drain();
    },
    active: () => proxy.activeRequests + node.routing.counts().requests,
    stop: () => owned.disposeAsync(),
  };
}

async function openAuth(config: KasConfig, clock: Clock, log: RootLogger): Promise<Auth> {
  const file = config.authentication.static_file;
  if (!file) {
    throw failed("invalid", "nobody could log in: set authentication.static_file to a file of agents, users and jobs");
  }
  return openStaticAuth({
    file,
    clock,
    report(event) {
      if (event.type === "applied") log.info("authentication file applied", event);
      else log.error(`authentication file refused, the version before stays: ${event.reason}`);
    },
  });
}

const secretsOf = (file: string | undefined): Secrets | null => (file ? readSecrets(file, readFile) : null);

/** Without the section nothing listens for Rails; a verifier of nothing then refuses all. */
const apiSecrets = (config: KasConfig): Secrets =>
  secretsOf(config.api?.listen.authentication_secret_file) ?? [crypto.getRandomValues(new Uint8Array(32))];

type OnSocket = Parameters<Listeners["open"]>[2];

/** Where other nodes reach us: known only once the listener has its port. */
async function privateAddress(config: KasConfig, listeners: Listeners, onSocket: OnSocket): Promise<string> {
  if (!config.private_api) return "";
  const listening = await listeners.open("private_api", config.private_api.listen, onSocket);
  const own = config.own_private_api;
  if (!own) return "";
  const port = own.port || Number(listening.slice(listening.lastIndexOf(":") + 1));
  return formatAddress({ host: own.host, port });
}

function peerTls(config: KasConfig) {
  const own = config.own_private_api;
  if (!own?.tls) return null;
  const ca = config.private_api?.listen.ca_certificate_file;
  return { ...(ca && { ca: readFileSync(ca) }), serverName: own.serverName };
}
