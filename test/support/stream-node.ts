/** One node with everything that carries streams, and the agents connected to it; its sockets are memory carriers. */
import type { Millis } from "../../actors/actor.ts";
import { type Failure, failure } from "../../actors/failure.ts";
import { type AgentId, type ConnectionId, type NodeId, nameOf } from "../../actors/ids.ts";
import { ClusterDirectory } from "../../src/cluster/directory.ts";
import { createHolder, type Holder } from "../../src/cluster/holder.ts";
import { createIngress } from "../../src/cluster/ingress.ts";
import type { IngressMetrics } from "../../src/cluster/ingress-options.ts";
import { createPeers, type Dial, type Peers } from "../../src/cluster/peers.ts";
import type { Router } from "../../src/cluster/router.ts";
import type { LocalConnection } from "../../src/cluster/routing.ts";
import { checkPeer, helloOf } from "../../src/kas/greeting.ts";
import { serveInbound } from "../../src/kas/inbound.ts";
import { type MemoryCarrier, memoryCarriers } from "../../src/link/carriers/memory.ts";
import type { Link, LinkLimits } from "../../src/link/link.ts";
import { decodeOpen } from "../../src/link/messages.ts";
import { openLink } from "../../src/link/multiplexer.ts";
import type { Stream } from "../../src/link/stream.ts";
import type { StartOptions, TestNode } from "./cluster.ts";
import type { StreamCluster } from "./stream-cluster.ts";
import { answers, type Behaviour, turns } from "./streams.ts";

/** What the metrics were told. */
export class Meter implements IngressMetrics {
  readonly opens: string[] = [];
  readonly closes: string[] = [];
  readonly routes: string[] = [];
  readonly unrouteds: string[] = [];
  bytesOut = 0;

  opened(kind: string, hop: string) {
    this.opens.push(`${kind} ${hop}`);
  }
  closed(kind: string, hop: string, reason: string, _in: number, bytesOut: number) {
    this.closes.push(`${kind} ${hop} ${reason}`);
    this.bytesOut += bytesOut;
  }
  routed(hop: string, _took: Millis, attempts: number) {
    this.routes.push(`${hop} ${attempts}`);
  }
  unrouted(code: string) {
    this.unrouteds.push(code);
  }
}

export type AgentOptions = Partial<LocalConnection> & {
  readonly projectId?: number;
  readonly token?: string;
};

/** One connected agent process: its link's two ends. */
export type TestAgent = {
  readonly id: ConnectionId;
  readonly name: string;
  readonly link: Link;
  readonly wire: MemoryCarrier;
  readonly events: string[];
  behaviour: Behaviour;
};

export class Kas {
  readonly node: TestNode;
  readonly holder: Holder;
  readonly peers: Peers;
  readonly router: Router;
  readonly directory: ClusterDirectory;
  readonly meter = new Meter();
  readonly inbound = { opened: 0, closed: 0 };
  readonly accepted = new Set<Link>();
  readonly faults: unknown[] = [];
  /** Our ends of links we dialled, by who is at the other end. */
  readonly wires = new Map<NodeId, MemoryCarrier>();
  dialled = 0;
  /** What happens to sockets that come in. */
  sockets: "served" | "refused" | "unanswered" = "served";
  #limits: Partial<LinkLimits> = {};
  readonly #cluster: StreamCluster;

  constructor(cluster: StreamCluster, name: string, options: StartOptions) {
    this.#cluster = cluster;
    this.node = cluster.cluster.start(name, {
      ...options,
      onSuperseded: (connection) => this.holder.port.superseded(connection),
    });
    const { routing } = this.node;
    const { clock } = cluster.cluster;
    const fault = (error: unknown) => void this.faults.push(error);
    this.holder = createHolder(() => routing);
    this.peers = createPeers({
      self: this.id,
      clock,
      random: () => 0.5,
      dial: this.#dial,
      openLink: (link) => openLink({ ...link, limits: this.#limits }),
      hello: (node) => helloOf(this.identity, nameOf(node)),
      check: (node) => (theirs) => checkPeer(this.identity, theirs, node),
      secrets: [Buffer.alloc(32, 1)],
      heard: (node) => routing.peerHeard(node),
      refused: (node) => routing.peerRefused(node),
      events: () => ({ open: this.#serve, ctl() {}, fault }),
    });
    this.directory = new ClusterDirectory({ routing, holder: this.holder, peers: this.peers, clock });
    this.router = createIngress({
      routing,
      holder: this.holder,
      peers: this.peers,
      clock,
      metrics: this.meter,
      mayExist: (agent) => agent !== 404,
      fault,
    });
    routing.onMembers = (members) => this.peers.follow(members);
  }

  get id(): NodeId {
    return this.node.id;
  }

  get identity() {
    return { cluster: "default", self: this.id, version: "test" };
  }

  /** For links dialled from now on. */
  set limits(limits: Partial<LinkLimits>) {
    this.#limits = limits;
  }

  readonly #serve = (payload: Uint8Array, stream: Stream) =>
    serveInbound(
      {
        holder: this.holder,
        methods: this.directory.methods,
        opened: () => void this.inbound.opened++,
        closed: () => void this.inbound.closed++,
      },
      payload,
      stream,
    );

  readonly #dial: Dial = (address, done) => {
    this.dialled++;
    let over = false;
    setImmediate(() => {
      if (over) return;
      const target = this.#cluster.at(address);
      if (!target || target.sockets === "refused" || !target.node.alive) {
        done(failure("node-gone", "connection refused"));
        return;
      }
      const [ours, theirs] = memoryCarriers();
      this.wires.set(target.id, ours);
      this.#cluster.carriers.push(ours, theirs);
      if (target.sockets === "served") target.#accept(theirs);
      done(ours);
    });
    return {
      [Symbol.dispose]() {
        over = true;
      },
    };
  };

  #accept(carrier: MemoryCarrier): void {
    const link = openLink({
      clock: this.#cluster.cluster.clock,
      carrier,
      role: "acceptor",
      hello: helloOf(this.identity),
      check: (theirs) => checkPeer(this.identity, theirs, null),
      secret: [Buffer.alloc(32, 1)],
      events: {
        open: this.#serve,
        up: (theirs) => this.node.routing.peerHeard(theirs.node as NodeId),
        ready() {},
        drain() {},
        ctl() {},
        fault: (error) => void this.faults.push(error),
        closed: () => this.accepted.delete(link),
      },
    });
    this.accepted.add(link);
  }

  /** Connects an agent here, as the agent tunnel does. */
  async agent(agentId: AgentId, behaviour: Behaviour = answers(), options: AgentOptions = {}): Promise<TestAgent> {
    const count = ++this.#cluster.agents;
    const { projectId = 1, token = "token", ...changes } = options;
    const generation = { instance: `pod-${count}`, process: `p${count}`, link: 1, lost: [], ...changes };
    const [toAgent, wire] = memoryCarriers();
    this.#cluster.carriers.push(toAgent, wire);
    const { clock } = this.#cluster.cluster;
    const events: string[] = [];
    const name = `${agentId}#${count}`;
    const agent = { id: 0 as ConnectionId, name, link: null as Link | null, wire, events, behaviour };
    agent.link = openLink({
      clock,
      carrier: wire,
      role: "dialler",
      hello: { ...helloOf(this.identity), role: "agent" },
      check: () => null,
      events: {
        up: () => events.push("up"),
        open: (payload, stream) => {
          const served = agent.behaviour(decodeOpen(payload), stream, name, () => wire.cutAfter(0));
          this.#cluster.served.push(served);
          return served;
        },
        ready: () => events.push("ready"),
        drain: () => events.push("drain"),
        ctl() {},
        closed: (reason) => events.push(`closed ${reason.code}`),
      },
    });
    let id: ConnectionId | null = null;
    const link: Link = openLink({
      clock,
      carrier: toAgent,
      role: "acceptor",
      hello: helloOf(this.identity),
      check: () => null,
      events: {
        up: () => {
          const details = { agentId, link, name, projectId, version: "v1", transport: "grpc", connectedAt: 0 } as const;
          id = this.holder.add({ ...details, instance: generation.instance, services: [], token }, generation);
          agent.id = id;
        },
        open: () => {
          throw new Error("an agent opens no streams");
        },
        ready() {},
        drain: () => id !== null && this.node.routing.drained(id),
        ctl() {},
        fault: (error) => void this.faults.push(error),
        closed: () => {
          if (id === null) return;
          this.node.routing.disconnected(id);
          this.holder.remove(id);
        },
      },
    });
    this.#cluster.links.push(agent.link, link);
    while (id === null) await turns(1);
    return agent as TestAgent;
  }

  /** The process is gone: its sockets are, its clock stands. */
  crash(): void {
    this.#cluster.cluster.crash(this.node);
    this.sockets = "refused";
    this.end(failure("node-gone", "crashed"));
  }

  end(reason: Failure): void {
    this.holder.destroy(reason);
    this.peers[Symbol.dispose]();
    for (const link of [...this.accepted]) link.destroy(reason);
  }
}
