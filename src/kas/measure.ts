/** Ties what happens in a node to its metrics; nothing else knows both. */
import type { FailureCode } from "../../actors/failure.ts";
import type { Bus } from "../bus/bus.ts";
import type { ClosedReason } from "../cluster/attempt.ts";
import type { Holder } from "../cluster/holder.ts";
import type { IngressMetrics } from "../cluster/ingress-options.ts";
import type { Peers } from "../cluster/peers.ts";
import type { Routing } from "../cluster/routing.ts";
import type { StreamLimit } from "../cluster/stream-limit.ts";
import type { Link } from "../link/link.ts";
import type { Open } from "../link/messages.ts";
import type { KasMetrics, RouteResult } from "../telemetry/metrics.ts";
import { following } from "../telemetry/series.ts";
import type { Links } from "./links.ts";

const RESULTS: Partial<Record<FailureCode, RouteResult>> = {
  "agent-offline": "no_agent",
  "agent-unknown": "no_agent",
  deadline: "timeout",
  "node-gone": "node_gone",
  "outcome-unknown": "node_gone",
  cancelled: "cancelled",
};

export function measureIngress({ streams, route, limits }: KasMetrics): IngressMetrics {
  return {
    opened(kind, hop) {
      streams.opened[kind][hop].inc();
      streams.active[kind][hop].inc();
    },
    closed(kind, hop, reason, bytesIn, bytesOut) {
      streams.active[kind][hop].dec();
      streams.closed[kind][hop][reason].inc();
      streams.bytes.response[hop].inc(bytesIn);
      streams.bytes.request[hop].inc(bytesOut);
    },
    routed(hop, took, attempts) {
      route.duration[hop].observe(took / 1000);
      route.attempts.observe(attempts);
    },
    unrouted(code, took, attempts) {
      route.duration[RESULTS[code] ?? "refused"].observe(took / 1000);
      if (code === "busy" && attempts === 0) limits.parked.inc();
    },
    refused: (code) => measureRefusal(limits, code),
  };
}

/** A holder is busy for one reason. */
function measureRefusal(limits: KasMetrics["limits"], code: FailureCode): void {
  if (code === "busy") limits.streams_per_agent.inc();
}

export const measureInbound = ({ streams, limits }: KasMetrics) => ({
  opened({ kind }: Open) {
    streams.opened[kind].inbound.inc();
    streams.active[kind].inbound.inc();
  },
  closed({ kind }: Open, reason: ClosedReason) {
    streams.active[kind].inbound.dec();
    streams.closed[kind].inbound[reason].inc();
  },
  refused: (code: FailureCode) => measureRefusal(limits, code),
});

export type Measured = {
  readonly routing: Routing;
  readonly holder: Holder;
  readonly peers: Peers;
  readonly bus: Bus | null;
  /** Links that other nodes dialled. */
  readonly accepted: ReadonlySet<Link>;
  readonly links: Links;
  readonly streams: StreamLimit;
};

/** Levels that are looked up when somebody collects. */
export function measureLevels(
  metrics: KasMetrics,
  { routing, holder, peers, bus, accepted, links, streams }: Measured,
): void {
  const relieved = following(metrics.limits.memory);
  const refused = following(metrics.limits.streams_per_node);
  const crowded = following(metrics.limits.streams_per_agent);
  metrics.onCollect(() => {
    metrics.streams.held.set(links.pool.held);
    metrics.streams.lent.set(links.pool.lent);
    relieved(links.pool.relieved);
    refused(streams.refusedByNode);
    crowded(streams.refusedByAgent);
    const { entries, members, parked } = routing.counts();
    metrics.cluster.ringMembers.set(members);
    metrics.cluster.ringView.set(routing.view);
    metrics.cluster.routingEntries.set(entries);
    metrics.route.parked.set(parked);
    measureAgents(metrics, holder);
    const dialled = [...peers.links()].map(([, link]) => link);
    metrics.cluster.peerLinks.set(dialled.length + accepted.size);
    metrics.streams.buffered.peer.set(buffered([...dialled, ...accepted]));
    for (const place of ["peer", "agent"] as const) metrics.streams.dropped(place, links.dropped(place));
    const counts = bus?.counts();
    metrics.cluster.natsConnected.set(bus?.connected ? 1 : 0);
    metrics.cluster.natsSubscriptions.set(counts?.subscriptions ?? 0);
    metrics.cluster.natsReconnects(counts?.reconnects ?? 0);
    metrics.cluster.natsDropped(counts?.dropped ?? 0);
  });
}

function measureAgents(metrics: KasMetrics, holder: Holder): void {
  const connections = [...holder.connections()];
  metrics.agents.connected.set(new Set(connections.map(({ agentId }) => agentId)).size);
  metrics.agents.connections(
    connections.map(({ transport, version }) => ({ transport, agent_version: version, value: 1 })),
  );
  metrics.streams.buffered.agent.set(buffered(connections.map(({ link }) => link)));
}

const buffered = (links: readonly Pick<Link, "bufferedBytes">[]): number =>
  links.reduce((sum, link) => sum + link.bufferedBytes, 0);
