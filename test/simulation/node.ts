/**
 * One kas process with everything that carries streams: real routing, holder, peer links, ingress and splices. What is made
 * up is its sockets (`wire.ts`), the bus, and who asks.
 */
import { failure } from "../../actors/failure.ts";
import { type AgentId, type ConnectionId, type NodeId, nameOf } from "../../actors/ids.ts";
import { createHolder, type Holder } from "../../src/cluster/holder.ts";
import { createIngress } from "../../src/cluster/ingress.ts";
import { watchLinks } from "../../src/cluster/link-watch.ts";
import { createPeers, type Dial, type Peers } from "../../src/cluster/peers.ts";
import type { RoutedStream, RouteRequest, Router } from "../../src/cluster/router.ts";
import type { LocalConnection } from "../../src/cluster/routing.ts";
import { checkPeer, helloOf } from "../../src/kas/greeting.ts";
import { serveInbound } from "../../src/kas/inbound.ts";
import type { Hello, Link } from "../../src/link/link.ts";
import type { Stream } from "../../src/link/stream.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { TestNode } from "../support/cluster.ts";
import { Process } from "../support/process.ts";
import type { Wire } from "../support/wire.ts";
import type { Pod, PodProcess } from "./agents.ts";
import { LinkOwner, stackOf } from "./links.ts";
import type { SimulatedRequest } from "./streams.ts";
import type { World } from "./world.ts";

const SECRET = Buffer.alloc(32, 1);
const DIAL_WITHIN = 2_000;

export class SimulatedNode {
  readonly node: TestNode;
  readonly process: Process;
  readonly clock: Clock;
  readonly holder: Holder;
  readonly peers: Peers;
  readonly owner: LinkOwner;
  readonly accepted = new Set<Link>();
  /** Its ends of all connections; those that are over go as new ones come. */
  readonly wires = new Map<Wire, 0 | 1>();
  /** Streams counted open and not yet closed: of its ingress, and of other nodes for agents here. */
  streams = 0;
  readonly #world: World;
  readonly #router: Router;
  #opening: SimulatedRequest | null = null;
  /** A connection that routing knows and that has no name yet. */
  #arriving: { readonly pod: Pod; readonly wire: Wire; readonly process: PodProcess } | null = null;

  constructor(world: World, name: string) {
    this.#world = world;
    const { cluster } = world;
    this.node = cluster.start(name, {
      onSuperseded: (connection) => {
        world.superseded(this, connection);
        this.holder.port.superseded(connection);
      },
      onRegistered: (connection) => this.holder.port.registered(connection),
      links: { entries: () => this.peers.links(), to: (to) => this.peers.link(to) },
    });
    this.process = new Process(cluster.clock, () => this.node);
    this.clock = this.process.clock();
    this.owner = new LinkOwner(world, this.id, this.process);
    const { routing } = this.node;
    this.#observe();
    this.holder = createHolder(() => routing);
    this.peers = createPeers({
      self: this.id,
      clock: this.clock,
      random: cluster.random,
      dial: this.#dial,
      openLink: this.owner.open,
      hello: (node) => this.#hello(nameOf(node)),
      check: (node) => (theirs) => checkPeer(this.#identity, theirs, node),
      secrets: [SECRET],
      heard: (node) => routing.peerHeard(node),
      refused: (node) => routing.peerRefused(node),
      events: (node) => ({ ...this.#events(() => this.peers.link(node)), fault() {} }),
    });
    this.#router = createIngress({
      routing,
      holder: this.holder,
      peers: this.peers,
      clock: this.clock,
      metrics: {
        opened: () => void this.streams++,
        closed: () => void this.streams--,
        routed() {},
        unrouted() {},
      },
      mayExist: () => true,
      fault: (error) => world.violation(`a caller threw: ${stackOf(error)}`),
    });
    routing.onMembers = (members, lost) => this.peers.follow([...members, ...lost]);
    watchLinks({
      clock: this.clock,
      links: () => this.peers.links(),
      heard: (node, at) => routing.peerHeard(node, at),
    });
  }

  get id(): NodeId {
    return this.node.id;
  }

  get #identity() {
    return { cluster: "default", self: this.id, version: "test" };
  }

  #hello(expects = "", agent = ""): Hello {
    return { ...helloOf(this.#identity, expects, agent), nonce: String(this.#world.dice()) };
  }

  /** Looks at what routing decides, as it decides. */
  #observe(): void {
    const { routing } = this.node;
    const take = routing.take.bind(routing);
    routing.take = (agent, prefer, exclude) => {
      const taken = take(agent, prefer, exclude);
      if (typeof taken === "number") this.#taken(agent, taken);
      return taken;
    };
    const connected = routing.connected.bind(routing);
    routing.connected = (connection) => this.#connected(connection, connected);
    const request = routing.request.bind(routing);
    routing.request = (spec, port) => {
      const of = this.#opening;
      if (of) of.id = spec.requestId;
      const control = request(spec, {
        attempt: (attempt) => {
          of?.attempting(attempt);
          port.attempt(attempt);
        },
        fail: (reason) => port.fail(reason),
      });
      return {
        report: (attempt, outcome) => {
          of?.reported(outcome);
          control.report(attempt, outcome);
        },
        cancel: () => control.cancel(),
      };
    };
  }

  /** I2, I5, I10, I15: what the holder is about to open a stream on. */
  #taken(agent: AgentId, id: ConnectionId): void {
    const connection = this.#world.connectionOf(this.node, id);
    if (!connection) {
      if (this.#arriving?.pod.agent === agent) return;
      this.#world.violation(`I2 a stream for agent ${agent} was handed to ${this.id}#${id}, which is not live`);
    } else if (connection.pod.agent !== agent) {
      this.#world.violation(`I5 a stream for agent ${agent} was handed to agent ${connection.pod.agent}`);
    } else if (this.#isUp(id)) this.#world.checkHanded(connection, agent);
  }

  /** On another link the holder opens nothing: the refusal is its own. */
  #isUp(id: ConnectionId): boolean {
    for (const connection of this.holder.connections()) if (connection.id === id) return connection.link.state === "up";
    return false;
  }

  #connected(connection: LocalConnection, told: (connection: LocalConnection) => ConnectionId): ConnectionId {
    const id = told(connection);
    if (this.#arriving) this.#world.connected({ ...this.#arriving, link: connection.link, node: this, id });
    return id;
  }

  // ---- requests

  open(of: SimulatedRequest, request: RouteRequest): RoutedStream {
    this.#opening = of;
    const stream = this.#router.open(request, of);
    this.#opening = null;
    return stream;
  }

  readonly #serve = (payload: Uint8Array, stream: Stream) =>
    serveInbound(
      {
        holder: this.holder,
        methods: new Map(),
        opened: () => void this.streams++,
        closed: () => void this.streams--,
        refused() {},
      },
      payload,
      stream,
    );

  #events(link: () => Link | null) {
    return {
      open: this.#serve,
      ctl: (payload: Uint8Array) => {
        const from = link();
        if (from) this.node.relay.receive(payload, from);
      },
    };
  }

  // ---- peer links

  readonly #dial: Dial = (address, done) => {
    const { network } = this.#world;
    const name = address.split(":")[0] ?? "";
    let over = false;
    const settle = (result: Parameters<typeof done>[0]) => {
      if (over) return;
      over = true;
      timer[Symbol.dispose]();
      done(result);
    };
    const refuse = (reason: string) => settle(failure("node-gone", reason));
    const timer = this.clock.schedule(this.clock.now() + DIAL_WITHIN, () => refuse("no answer within 2000 ms"));
    this.#world.after(this.#world.hop(), () => {
      const to = `${name}.0` as NodeId;
      if (over || !network.linkOpen(this.id, to) || !network.linkOpen(to, this.id)) return;
      const target = this.#world.nodeOf(name);
      if (!target) {
        this.process.run(() => refuse("connection refused"));
        return;
      }
      const wire = this.#world.wire([this.process, target.process], [this.id, target.id], (from) =>
        from === 0 ? network.linkOpen(this.id, to) : network.linkOpen(to, this.id),
      );
      this.#world.peerWires.add(wire);
      target.accept(wire);
      this.#keep(wire, 0);
      this.process.run(() => (over ? wire.ends[0].destroy() : settle(wire.ends[0])));
    });
    return {
      [Symbol.dispose]() {
        over = true;
        timer[Symbol.dispose]();
      },
    };
  };

  #keep(wire: Wire, end: 0 | 1): void {
    for (const old of this.wires.keys()) if (old.isOver) this.wires.delete(old);
    this.wires.set(wire, end);
  }

  accept(wire: Wire): void {
    this.#keep(wire, 1);
    this.process.run(() => {
      const link: Link = this.owner.open({
        clock: this.clock,
        carrier: wire.ends[1],
        role: "acceptor",
        hello: this.#hello(),
        check: (theirs) => checkPeer(this.#identity, theirs, null),
        secret: [SECRET],
        events: {
          ...this.#events(() => link),
          up: (theirs) => this.node.routing.peerHeard(theirs.node as NodeId),
          ready() {},
          drain() {},
          closed: () => void this.accepted.delete(link),
        },
      });
      this.accepted.add(link);
    });
  }

  // ---- agents

  /** Takes an agent's call, as the agent tunnel does. */
  admit(pod: Pod, process: PodProcess, wire: Wire): void {
    this.#keep(wire, 1);
    this.process.run(() => {
      const { routing } = this.node;
      if (routing.phase === "up") this.#admitted(pod, process, wire);
      else wire.ends[1].destroy();
    });
  }

  #admitted(pod: Pod, process: PodProcess, wire: Wire): void {
    const { routing } = this.node;
    let id: ConnectionId | null = null;
    const { agent: agentId, instance } = pod;
    const link: Link = this.owner.open({
      clock: this.clock,
      carrier: wire.ends[1],
      role: "acceptor",
      hello: this.#hello("", String(agentId)),
      check: () => null,
      events: {
        up: (theirs) => {
          this.#arriving = { pod, process, wire };
          const fixed = { name: pod.name, projectId: 1, version: "v1", transport: "grpc", services: [] } as const;
          id = this.holder.add(
            { ...fixed, agentId, link, instance, connectedAt: 0, token: "token" },
            { instance: theirs.instance, process: theirs.process, link: theirs.link, lost: theirs.lost },
          );
          this.#arriving = null;
        },
        open: () => {
          throw new Error("an agent opens no streams");
        },
        ready() {},
        drain: () => {
          if (id === null) return;
          routing.drained(id);
          this.#world.drained(this.node, id);
        },
        ctl() {},
        closed: () => {
          if (id === null) return;
          this.#world.closed(this.node, id);
          routing.disconnected(id);
          this.holder.remove(id);
        },
      },
    });
  }

  // ---- its end

  /** As SIGTERM: no home any more, its agents asked to go elsewhere. */
  drain(): void {
    const { routing } = this.node;
    routing.drain();
    for (const { id, link } of this.holder.connections()) {
      routing.drained(id);
      this.#world.drained(this.node, id);
      link.drain();
    }
  }

  leave(): void {
    void this.node.routing.leave();
    const reason = failure("node-gone", `${this.id} stopped`);
    this.holder.destroy(reason);
    this.peers[Symbol.dispose]();
    for (const link of [...this.accepted]) link.destroy(reason);
  }

  /** The process is gone. `unseen`: its machine too, so that nobody is told. */
  end(unseen: boolean): void {
    for (const [wire, end] of this.wires) {
      if (unseen) wire.vanish();
      else wire.died(end);
    }
    this.wires.clear();
  }
}
