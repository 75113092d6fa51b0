/**
 * This node's part in the cluster: bus, routing plane, holder, peer links, ingress and directory, tied together once.
 * Without `nats` it is a cluster of one and needs neither bus nor peers.
 */
import type { Socket } from "node:net";
import { Bag } from "../../actors/bag.ts";
import type { Failure } from "../../actors/failure.ts";
import { type AgentId, type NodeId, nodeId } from "../../actors/ids.ts";
import { deriveKeys } from "../auth/derive.ts";
import type { Secrets } from "../auth/secret-file.ts";
import type { Bus } from "../bus/bus.ts";
import { connectNats } from "../bus/nats.ts";
import { ClusterDirectory } from "../cluster/directory.ts";
import { createHolder, type Holder } from "../cluster/holder.ts";
import { createIngress } from "../cluster/ingress.ts";
import { watchLinks } from "../cluster/link-watch.ts";
import type { NodeMethod } from "../cluster/node-service.ts";
import { createPeers, type Peers } from "../cluster/peers.ts";
import type { Directory, Router } from "../cluster/router.ts";
import type { Routing } from "../cluster/routing.ts";
import { createRouting } from "../cluster/routing-plane.ts";
import { ROUTING_DEFAULTS } from "../cluster/routing-settings.ts";
import { keepRunning, type RunningStream, type RunningStreams } from "../cluster/running-stream.ts";
import { StreamLimit } from "../cluster/stream-limit.ts";
import type { KasConfig } from "../config/kas.ts";
import { socketCarrier } from "../link/carriers/socket.ts";
import type { Link } from "../link/link.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { KasMetrics } from "../telemetry/metrics.ts";
import { openClusterMessenger } from "./cluster-messenger.ts";
import { checkPeer, helloOf, type Identity } from "./greeting.ts";
import { serveInbound } from "./inbound.ts";
import { Links } from "./links.ts";
import { measureInbound, measureIngress, measureLevels } from "./measure.ts";
import { dialPeer, type PeerTls } from "./peer-sockets.ts";

export type ClusterNodeOptions = {
  readonly config: KasConfig;
  readonly version: string;
  readonly clock: Clock;
  readonly wallClock: () => number;
  readonly log: Logger;
  readonly metrics: KasMetrics;
  /** `host:port` where other nodes dial us, "" for a cluster of one. */
  readonly address: string;
  readonly secrets: Secrets | null;
  /** How to dial the others; null: without TLS. */
  readonly tls: PeerTls | null;
  /** Instead of NATS: several nodes of one process meet here. */
  readonly bus?: Bus;
  readonly deposed: (reason: Failure) => void;
  readonly mayExist: (agent: AgentId) => boolean;
};

export interface ClusterNode extends AsyncDisposable {
  readonly identity: Identity;
  readonly routing: Routing;
  readonly holder: Holder;
  readonly peers: Peers;
  readonly router: Router;
  readonly directory: Directory;
  readonly links: Links;
  /** What callers of this node have under way. */
  readonly callers: RunningStreams;
  /** What other nodes may ask of this one. */
  readonly methods: Map<string, NodeMethod>;
  readonly natsConnected: boolean | null;
  /** A socket that another node dialled. */
  accept(socket: Socket): void;
}

export function createClusterNode(options: ClusterNodeOptions): ClusterNode {
  const { config, version, clock, wallClock, log, metrics, secrets } = options;
  const owned = new AsyncDisposableStack();
  const incarnation = wallClock();
  const self = () => routing.self;
  const identity: Identity = {
    cluster: config.cluster.name,
    version,
    get self() {
      return routing.self;
    },
  };
  const bus = busOf(options);
  if (bus) owned.use(bus);
  const first = nodeId(config.node.name, incarnation);
  const around = { self, links: () => peers.links(), linkTo: (node: NodeId) => peers.link(node) };
  const between =
    bus && secrets ? owned.use(openClusterMessenger({ config, bus, secrets, clock, first, ...around })) : null;
  const holder = createHolder(() => routing);
  const streams = new StreamLimit(config.limits.streams_per_node, config.limits.streams_per_agent);
  const routing = createRouting({
    name: config.node.name,
    incarnation,
    address: options.address,
    messenger: between?.messenger ?? null,
    clock,
    wallClock,
    random: Math.random,
    holder: holder.port,
    log: (text, err) => log.error(text, { err }),
    deposed: options.deposed,
    renamed: (renamed) => between?.renamed(renamed),
    settings: routingSettings(config),
    streams,
  });
  const linkKeys = secrets ? deriveKeys(secrets, "link") : [];
  const links = new Links(config.timings, config.limits);
  const openPeerLink = links.opener("peer");
  const accepted = new Set<Link>();
  const fault = (err: unknown) => log.error("a handler of a stream threw", { err });
  const events = (link: () => Link | null) => ({
    open: (...arrived: Parameters<Inbound>) => inbound(...arrived),
    ctl(payload: Uint8Array) {
      const from = link();
      if (from) between?.messenger.receive(payload, from);
    },
    fault,
  });
  const inbound: Inbound = (payload, stream) =>
    serveInbound({ holder, methods, streams, ...measureInbound(metrics) }, payload, stream);
  const peers: Peers = owned.use(
    createPeers({
      get self() {
        return routing.self;
      },
      clock,
      random: Math.random,
      dial: dialPeer(clock, options.tls),
      openLink: openPeerLink,
      hello: (node) => helloOf(identity, node.slice(0, node.lastIndexOf("."))),
      check: (node) => (theirs) => checkPeer(identity, theirs, node),
      secrets: linkKeys,
      heard: (node) => routing.peerHeard(node),
      refused: (node) => routing.peerRefused(node),
      events: (node) => events(() => peers.link(node)),
    }),
  );
  owned.use(watchLinks({ clock, links: () => peers.links(), heard: (node, at) => routing.peerHeard(node, at) }));
  const directory = new ClusterDirectory({ routing, holder, peers, clock });
  const methods = new Map(directory.methods);
  const callers = new Bag<RunningStream>();
  const { mayExist } = options;
  const ingress = createIngress({
    routing,
    holder,
    peers,
    clock,
    metrics: measureIngress(metrics),
    mayExist,
    fault,
  });
  routing.onMembers = (members, lost) => {
    peers.follow([...members, ...lost]);
    metrics.cluster.ringChanges.inc();
    log.info("members changed", { members: members.map(({ node, state }) => `${node} ${state}`) });
  };
  measureLevels(metrics, { routing, holder, peers, bus, accepted, links, streams });
  return {
    identity,
    routing,
    holder,
    peers,
    router: keepRunning(ingress, callers),
    directory,
    links,
    callers,
    methods,
    get natsConnected() {
      return config.nats ? (bus?.connected ?? false) : null;
    },
    accept(socket) {
      const link = openPeerLink({
        clock,
        carrier: socketCarrier(socket),
        role: "acceptor",
        hello: helloOf(identity),
        check: (theirs) => checkPeer(identity, theirs, null),
        ...(linkKeys.length > 0 && { secret: linkKeys }),
        events: {
          ...events(() => link),
          up: (theirs) => routing.peerHeard(theirs.node as NodeId),
          ready() {},
          drain() {},
          closed(reason) {
            accepted.delete(link);
            if (reason.code === "forbidden" || reason.code === "protocol") {
              log.warn("a peer was refused", { peer: socket.remoteAddress, code: reason.code, reason: reason.reason });
            }
          },
        },
      });
      accepted.add(link);
    },
    async [Symbol.asyncDispose]() {
      await routing.leave();
      const reason = { code: "node-gone", reason: `${self} stopped` } as const;
      holder.destroy(reason);
      for (const link of [...accepted]) link.destroy(reason);
      await owned.disposeAsync();
    },
  };
}

type Inbound = (
  ...arrived: Parameters<typeof serveInbound> extends [unknown, ...infer Rest] ? Rest : never
) => ReturnType<typeof serveInbound>;

function busOf({ config, bus, log, clock }: ClusterNodeOptions): Bus | null {
  if (bus) return bus;
  const { nats } = config;
  if (!nats) return null;
  return connectNats({
    name: config.node.name,
    servers: nats.servers,
    credentialsFile: nats.credentials_file,
    nkeySeedFile: nats.nkey_seed_file,
    ...(nats.tls && { tls: natsTls(nats.tls) }),
    clock,
    problem: (message, err) => log.warn(message, { err }),
  });
}

type NatsTls = NonNullable<NonNullable<KasConfig["nats"]>["tls"]>;

const natsTls = ({ ca_certificate_file, certificate_file, key_file }: NatsTls) => ({
  ...(ca_certificate_file && { caFile: ca_certificate_file }),
  ...(certificate_file && { certFile: certificate_file }),
  ...(key_file && { keyFile: key_file }),
});

function routingSettings({ cluster, agent, limits, timings }: KasConfig) {
  return {
    homes: cluster.homes,
    membership: {
      heartbeat: timings.heartbeat_interval,
      suspect: timings.suspect_after,
      dead: timings.dead_after,
      joinWindow: timings.join_window,
      linkQuiet: timings.link_quiet_after,
      linkDead: timings.link_dead_after,
      proofWithin: timings.proof_within,
      lateAfter: timings.late_after,
      lateFor: timings.late_for,
      stalledAfter: timings.stalled_after,
      isolatedMost: timings.isolated_most,
    },
    home: { ...ROUTING_DEFAULTS.home, matureAfter: timings.complete_after },
    offlineAfter: agent.offline_after,
    streamsPerAgent: limits.streams_per_agent,
  };
}
