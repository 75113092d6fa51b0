/**
 * The metrics of a kas node: names and labels are a contract with dashboards and alerts (docs/operations.md). No label
 * holds an agent, a user or a path; every label's values are listed here or bounded here.
 */
import { Registry } from "prom-client";
import { FAILURE_CODES } from "../../actors/failure.ts";
import { REFUSALS } from "../bus/envelopes.ts";
import { processMetrics } from "./process-metrics.ts";
import { rpcDurations } from "./rpc-metrics.ts";
import { following, type Row, Series } from "./series.ts";

const KINDS = ["http", "grpc"] as const;
/** `inbound`: carried here for another node, whose caller it is. */
const HOPS = ["local", "remote", "inbound"] as const;
const DIRECTIONS = ["request", "response"] as const;
const PLACES = ["ingress", "peer", "agent"] as const;
const LINKS = ["peer", "agent"] as const;
const TRANSPORTS = ["grpc", "websocket"] as const;
const METHODS = ["get", "list", "watch", "mutate", "exec", "logs", "portforward", "other"] as const;
const OUTCOMES = ["ok", "client_error", "upstream_error", "agent_error", "no_agent", "kas_error"] as const;
const ROUTES = ["local", "remote", "no_agent", "timeout", "node_gone", "refused", "cancelled"] as const;
const AUTH = ["ok", "denied", "error", "cache_hit"] as const;
const LIMITS = ["streams_per_agent", "streams_per_node", "parked", "connections", "handshakes", "memory"] as const;
const STREAM_ENDS = ["done", ...FAILURE_CODES] as const;
const CONNECTS = ["ok", "unauthenticated", "refused", "error"] as const;
const DISCONNECTS = ["drain", "silent", "revoked", "superseded", "lost", "error"] as const;

export type ProxyMethodClass = (typeof METHODS)[number];
export type ProxyOutcome = (typeof OUTCOMES)[number];
export type RouteResult = (typeof ROUTES)[number];
export type StreamEnd = (typeof STREAM_ENDS)[number];

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const ROUTE_SECONDS = [0, 1, 2, 3, 4, 5, 6, 7].map((n) => 0.001 * 4 ** n);

export type MetricsOptions = {
  readonly node: string;
  readonly version: string;
  /** False when another node of the same process already tells what the process does. */
  readonly wholeProcess?: boolean;
};

export type KasMetrics = ReturnType<typeof createMetrics>;

export function createMetrics({ node, version, wholeProcess = true }: MetricsOptions) {
  const registry = new Registry();
  registry.setDefaultLabels({ node });
  const series = new Series(registry);
  const collectors: (() => void)[] = [];
  const collect = () => {
    for (const bring of collectors) bring();
  };
  const own = processMetrics(registry, series, collect, { prefix: "kas", version, wholeProcess });
  return {
    registry,
    /** Called before each collection: set the levels that are cheaper to look up than to keep. */
    onCollect: (bring: () => void): void => void collectors.push(bring),
    alive: () => own.alive(),
    agents: agentSeries(series),
    streams: streamSeries(series),
    proxy: proxySeries(series),
    route: routeSeries(series),
    cluster: clusterSeries(series),
    limits: series.counts(
      "kas_limit_rejections_total",
      "What was refused because a limit was reached",
      "limit",
      LIMITS,
    ),
    auth: series.counts("kas_auth_requests_total", "Credentials that were checked, by result", "result", AUTH),
    rpc: rpcDurations(registry),
    drainPhase: series.level("kas_drain_phase", "0 serving, 1 draining, 2 left"),
    drainStreams: series.level("kas_drain_streams_remaining", "Streams a drain still waits for"),
    /** Seconds since 1970, by listener. */
    certificateExpiry: series.table(
      "kas_tls_certificate_expiry_timestamp_seconds",
      "When the certificate of a listener expires",
      ["listener"],
    ),
    [Symbol.dispose](): void {
      collectors.length = 0;
      own[Symbol.dispose]();
      registry.clear();
    },
  };
}

function agentSeries(series: Series) {
  const connections = series.table("kas_agent_connections", "Connections of agents held here", [
    "transport",
    "agent_version",
  ]);
  return {
    connected: series.level("kas_agents_connected", "Agents with at least one connection here"),
    /** Replaces all: one row for each connection or for each group of them. */
    connections: (rows: Iterable<ConnectionRow>): void => connections.replace(bounded([...rows])),
    connects: series.counts("kas_agent_connects_total", "Agents' attempts to connect", "result", CONNECTS),
    disconnects: series.counts("kas_agent_disconnects_total", "Connections that ended", "reason", DISCONNECTS),
  };
}

export type ConnectionRow = Row<"agent_version"> & { readonly transport: (typeof TRANSPORTS)[number] };

const MAX_VERSIONS = 20;

/** Agents choose their versions, so only the most frequent have a series of their own. */
function bounded(rows: readonly ConnectionRow[]): readonly ConnectionRow[] {
  const sizes = new Map<string, number>();
  for (const { agent_version, value } of rows) sizes.set(agent_version, (sizes.get(agent_version) ?? 0) + value);
  const ranked = [...sizes].toSorted(([, a], [, b]) => b - a).slice(0, MAX_VERSIONS);
  const kept = new Set(ranked.map(([name]) => name));
  return rows.map((row) => (kept.has(row.agent_version) ? row : { ...row, agent_version: "other" }));
}

function streamSeries(series: Series) {
  const kindHop = [KINDS, HOPS] as const;
  const links = series.counts("kas_link_frames_dropped_total", "Frames for streams that were over", "place", LINKS);
  const dropped = { peer: following(links.peer), agent: following(links.agent) };
  return {
    active: series.levels2("kas_streams_active", "Streams open now", ["kind", "hop"], kindHop),
    opened: series.counts2("kas_streams_opened_total", "Streams opened", ["kind", "hop"], kindHop),
    closed: series.counts3(
      "kas_streams_closed_total",
      "Streams ended, by how",
      ["kind", "hop", "reason"],
      [KINDS, HOPS, STREAM_ENDS],
    ),
    bytes: series.counts2("kas_stream_bytes_total", "Payload carried", ["direction", "hop"], [DIRECTIONS, HOPS]),
    /** A total, as the links count them. */
    dropped: (place: keyof typeof dropped, total: number): void => dropped[place](total),
    held: series.level("kas_stream_held_bytes", "Payload that came over links and whose reader has not taken it"),
    lent: series.level("kas_stream_lent_bytes", "By how much windows of streams in use are above their own 64 KiB"),
    buffered: series.levels("kas_stream_buffered_bytes", "Payload held here until somebody takes it", "place", PLACES),
  };
}

function proxySeries(series: Series) {
  const labels = ["method_class", "outcome"] as const;
  return {
    requests: series.counts2("kas_proxy_requests_total", "Requests to the Kubernetes API proxy", labels, [
      METHODS,
      OUTCOMES,
    ]),
    /** Not for streams (watch, exec, logs, port-forward): they last as long as their caller likes. */
    duration: series.spreads2(
      "kas_proxy_request_duration_seconds",
      "From a request's head to the end of its answer",
      labels,
      [METHODS, OUTCOMES],
      SECONDS,
    ),
  };
}

function routeSeries(series: Series) {
  const help = "From a request's arrival to its acceptance by an agent";
  return {
    duration: series.spreads("kas_route_duration_seconds", help, "result", ROUTES, ROUTE_SECONDS),
    attempts: series.spread(
      "kas_route_attempts",
      "Streams opened for one request until one was accepted",
      [1, 2, 3, 5, 8],
    ),
    parked: series.level("kas_requests_parked", "Requests that wait for an agent to connect"),
  };
}

function clusterSeries(series: Series) {
  const refused = series.counts(
    "kas_envelopes_refused_total",
    "Messages of nodes that were dropped",
    "reason",
    REFUSALS,
  );
  const follow = Object.entries(refused).map(([reason, counter]) => [reason, following(counter)] as const);
  return {
    ringMembers: series.level("kas_ring_members", "Nodes on the ring as seen here"),
    ringView: series.level("kas_ring_view", "Low 32 bits of the hash of the view: equal on all nodes that agree"),
    ringChanges: series.count("kas_ring_changes_total", "Changes of the view"),
    routingEntries: series.level("kas_routing_entries", "Entries of the home index of this node"),
    peerLinks: series.level("kas_peer_links", "Links to other nodes that are up"),
    natsConnected: series.level("kas_nats_connected", "1 while NATS is connected"),
    natsSubscriptions: series.level("kas_nats_subscriptions", "Subscriptions on NATS"),
    /** Totals, as the bus counts them. */
    natsReconnects: following(series.count("kas_nats_reconnects_total", "Times NATS was found again")),
    natsDropped: following(series.count("kas_nats_dropped_total", "Messages that could not be sent")),
    refused: (totals: Readonly<Record<string, number>>): void => {
      for (const [reason, raise] of follow) raise(totals[reason] ?? 0);
    },
  };
}
