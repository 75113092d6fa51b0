/**
 * A cluster, its agents and its weather, from one seed. 60 s of chaos (see faults.ts), then 25 s of quiet in which
 * everything must become exact. Every fifth seed has no bus at all for a minute.
 */
import type { Millis } from "../../actors/actor.ts";
import { hashText } from "../../actors/hash.ts";
import { type AgentId, type ConnectionId, type NodeId, nameOf } from "../../actors/ids.ts";
import { Cluster, type TestNode } from "../support/cluster.ts";
import { fault, outage } from "./faults.ts";
import { Network } from "./network.ts";
import { type SimulatedRequest, send } from "./streams.ts";
import { checkDraining, lookAround } from "./watchers.ts";

const CHAOS: Millis = 60_000;
const OUTAGE: Millis = 30_000;
const QUIET: Millis = 25_000;
export const AGENTS = 12;
const NEVER = Number.POSITIVE_INFINITY;
const SUPERSEDED_WITHIN: Millis = 5_000;

export type SimulatedConnection = {
  readonly id: ConnectionId;
  readonly node: TestNode;
  /** The name of that process. */
  readonly holder: NodeId;
  readonly replica: Replica;
  readonly process: string;
  readonly link: number;
  readonly from: Millis;
  to: Millis;
  /** Its process is gone or stopped, and the holder does not know yet. */
  frozen: boolean;
  /** When its holder was told that streams should go elsewhere. */
  drainedAt: Millis;
  readonly lost: (() => void)[];
};

/** One pod of an agent: at most one process of it lives. */
export type Replica = {
  readonly agent: AgentId;
  readonly instance: string;
  process: number;
  link: number;
  connection: SimulatedConnection | null;
  offline: boolean;
};

export class World {
  readonly cluster: Cluster;
  readonly requests: SimulatedRequest[] = [];
  readonly violations: string[] = [];
  readonly replicas: Replica[] = [];
  readonly connections: SimulatedConnection[] = [];
  readonly network: Network;
  readonly chaos: Millis;
  /** When nodes stood still. */
  readonly stalls: { readonly node: TestNode; readonly from: Millis; readonly to: Millis }[] = [];
  busAway = false;
  hash = 0;
  readonly #live = new Map<NodeId, Map<ConnectionId, SimulatedConnection>>();
  readonly #newest = new Map<TestNode, Map<string, number>>();
  readonly #traced: ((line: string) => void) | null;
  readonly names: readonly string[];

  constructor(seed: number, traced: ((line: string) => void) | null = null) {
    this.cluster = new Cluster(seed);
    this.cluster.linked = true;
    this.#traced = traced;
    this.chaos = CHAOS + (seed % 5 === 0 ? OUTAGE : 0);
    this.names = ["a", "b", "c", "d", "e"].slice(0, 2 + this.roll(4));
    this.network = new Network(this, this.names);
    this.cluster.linkOpen = (from, to) => this.network.linkOpen(from, to);
    this.cluster.weather = (from, to) => this.network.delays(from, to);
    this.cluster.observe = (from, to, message) => this.trace(`${from} ${to} ${message.type}`);
    for (const name of this.names) this.after(this.roll(300), () => this.boot(name));
    for (let agent = 1; agent <= AGENTS; agent++) this.#addAgent(agent as AgentId);
    this.#plan();
    lookAround(this);
  }

  // ---- dice and time

  dice(): number {
    return this.cluster.random();
  }
  roll(sides: number): number {
    return Math.floor(this.dice() * sides);
  }
  chance(probability: number): boolean {
    return this.dice() < probability;
  }
  now(): Millis {
    return this.cluster.clock.now();
  }
  after(delay: Millis, run: () => void): void {
    this.cluster.clock.schedule(this.now() + delay, run);
  }
  hop(): Millis {
    return 1 + this.roll(3);
  }
  duration(): Millis {
    return this.chance(0.1) ? this.roll(5_000) : 1 + this.roll(100);
  }

  trace(line: string): void {
    this.hash = hashText(`${this.now()} ${line}`, this.hash);
    this.#traced?.(`${this.now().toFixed(1)} ${line}`);
  }

  violation(text: string): void {
    this.violations.push(`${text} (t=${Math.round(this.now())})`);
    this.trace(`VIOLATION ${text}`);
  }

  run(): void {
    this.cluster.advance(this.chaos);
    this.network.heal();
    for (const node of this.alive()) if (!node.messenger.connected) node.messenger.connect(true);
    this.busAway = false;
    this.cluster.advance(QUIET);
  }

  // ---- nodes

  alive(): TestNode[] {
    return [...this.cluster.nodes.values()].filter((node) => node.alive);
  }

  node(name: string): TestNode | undefined {
    return this.alive().find((node) => nameOf(node.id) === name);
  }

  boot(name: string): void {
    if (this.node(name)) return;
    const node = this.cluster.start(name, { onSuperseded: (connection) => this.#superseded(node, connection) });
    this.#live.set(node.id, new Map());
    this.trace(`boot ${node.id}`);
    node.messenger.connected = !this.busAway;
    node.routing.join().catch(() => {});
  }

  crash(name: string): void {
    const node = this.node(name);
    if (!node) return;
    this.trace(`crash ${node.id}`);
    this.cluster.crash(node);
    for (const connection of [...(this.#live.get(node.id)?.values() ?? [])]) {
      this.#close(connection);
      this.after(300 + this.roll(2_000), () => this.#connect(connection.replica));
    }
    this.after(500 + this.roll(8_000), () => this.boot(name));
  }

  drain(name: string): void {
    const node = this.node(name);
    if (node?.routing.phase !== "up" || this.cluster.isStalled(node)) return;
    this.trace(`drain ${node.id}`);
    node.routing.drain();
    for (const connection of this.#live.get(node.id)?.values() ?? []) {
      this.after(200 + this.roll(3_000), () => this.#move(connection));
    }
    this.after(5_000, () => {
      if (!node.alive) return;
      node.routing.leave();
      this.crash(name);
    });
  }

  /** The newest incarnation of each name that a node ever believed in. */
  newest(node: TestNode): Map<string, number> {
    const known = this.#newest.get(node) ?? new Map<string, number>();
    this.#newest.set(node, known);
    return known;
  }

  // ---- agents

  #addAgent(agent: AgentId): void {
    const offline = this.chance(0.15);
    for (let pod = 0; pod <= this.roll(2); pod++) {
      const instance = `gitlab/agentk-${pod}`;
      const replica: Replica = { agent, instance, process: 1, link: 0, connection: null, offline };
      this.replicas.push(replica);
      this.after(2_000 + this.roll(1_500) + (offline ? this.roll(50_000) : 0), () => {
        replica.offline = false;
        this.#connect(replica);
      });
    }
  }

  /** Dials any node that serves; `lost` names links given up. */
  #connect(replica: Replica, lost: readonly number[] = []): void {
    if (replica.offline || replica.connection) return;
    const nodes = this.#serving();
    const node = nodes[this.roll(nodes.length)];
    if (!node) {
      this.after(500, () => this.#connect(replica, lost));
      return;
    }
    const link = ++replica.link;
    const process = `p${replica.process}`;
    const { agent: agentId, instance } = replica;
    const id = node.routing.connected({ agentId, instance, process, link, lost });
    const from = this.now();
    const to = NEVER;
    const connection: SimulatedConnection = {
      id,
      node,
      holder: node.id,
      replica,
      process,
      link,
      from,
      to,
      frozen: false,
      drainedAt: NEVER,
      lost: [],
    };
    replica.connection = connection;
    this.connections.push(connection);
    this.#live.get(node.id)?.set(id, connection);
    this.trace(`connect ${agentId} ${instance} ${process}/${link} ${node.id}#${id}`);
  }

  connectionOf(node: TestNode, id: ConnectionId): SimulatedConnection | undefined {
    return node.alive ? this.#live.get(node.id)?.get(id) : undefined;
  }

  liveConnections(): SimulatedConnection[] {
    return this.connections.filter((connection) => connection.to === NEVER);
  }

  checkHanded(connection: SimulatedConnection, request: string): void {
    this.checkGeneration(connection);
    checkDraining(this, connection, request);
  }

  /** A dead link gets nothing once the one that replaced it has been known for a while. */
  checkGeneration({ frozen, replica, node, id }: SimulatedConnection): void {
    const { connection } = replica;
    if (!frozen || !connection || connection.frozen) return;
    const since = this.now() - SUPERSEDED_WITHIN;
    if (connection.from > since || !this.network.isCalm(connection.from, this.now())) return;
    this.violation(`I15 agent ${replica.agent}: ${node.id}#${id} still gets streams, ${connection.id} replaced it`);
  }

  onLost(node: TestNode, id: ConnectionId, run: () => void): void {
    this.#live.get(node.id)?.get(id)?.lost.push(run);
  }

  #close(connection: SimulatedConnection): void {
    const { node, replica } = connection;
    if (connection.to !== NEVER) return;
    connection.to = this.now();
    if (replica.connection === connection) replica.connection = null;
    if (!this.cluster.isStalled(node)) {
      this.#closed(connection);
      return;
    }
    connection.frozen = true;
    this.after(node.stalledUntil - this.now(), () => this.#closed(connection));
  }

  /** Its holder sees it, if it still lives. */
  #closed(connection: SimulatedConnection): void {
    const { node, id } = connection;
    this.#live.get(node.id)?.delete(id);
    this.cluster.whenAwake(node, () => node.routing.disconnected(id));
    for (const lost of connection.lost.splice(0)) lost();
    this.trace(`close ${node.id}#${id}`);
  }

  #superseded(node: TestNode, id: ConnectionId): void {
    const connection = this.#live.get(node.id)?.get(id);
    if (!connection) return;
    const { replica } = connection;
    if (replica.connection === connection && !connection.frozen) {
      this.violation(`I15 the only live link of agent ${replica.agent} ${replica.instance} was superseded`);
    }
    this.after(0, () => this.#close(connection));
  }

  /** Make before break. */
  #move(connection: SimulatedConnection): void {
    const { replica, node, id } = connection;
    if (!this.connectionOf(node, id) || replica.connection !== connection || this.cluster.isStalled(node)) return;
    node.routing.drained(id);
    connection.drainedAt = this.now();
    replica.connection = null;
    this.#connect(replica);
    this.after(300, () => this.#close(connection));
  }

  /** The link breaks; the agent notices, its holder only later: the next link names it as lost. */
  halfOpen(replica: Replica): void {
    const { connection } = replica;
    if (!connection) return;
    connection.frozen = true;
    replica.connection = null;
    this.trace(`half-open ${connection.node.id}#${connection.id}`);
    this.after(200 + this.roll(1_000), () => this.#connect(replica, [connection.link]));
    this.after(15_000, () => this.#close(connection));
  }

  /** The pod restarts: a new process, the old link still open at its holder. */
  restart(replica: Replica): void {
    const { connection } = replica;
    if (!connection) return;
    connection.frozen = true;
    replica.connection = null;
    replica.process++;
    replica.link = 0;
    this.trace(`restart ${replica.agent} ${replica.instance}`);
    this.after(1_000 + this.roll(3_000), () => this.#connect(replica));
    this.after(20_000, () => this.#close(connection));
  }

  breakLink(replica: Replica): void {
    if (replica.connection) this.#close(replica.connection);
    this.after(300 + this.roll(1_500), () => this.#connect(replica));
  }

  // ---- what happens when

  #plan(): void {
    const faults = 4 + this.roll(11);
    for (let i = 0; i < faults; i++) this.after(4_000 + this.roll(this.chaos - 15_000), () => fault(this));
    if (this.chaos > CHAOS) this.after(15_000, () => outage(this, 60_000));
    this.after(3_000, () => this.#load());
  }

  #serving(): TestNode[] {
    return this.alive().filter((node) => node.routing.phase === "up" && !this.cluster.isStalled(node));
  }

  #load(): void {
    if (this.now() > this.chaos + 5_000) return;
    const nodes = this.#serving();
    const node = nodes[this.roll(nodes.length)];
    const agent = (1 + this.roll(AGENTS)) as AgentId;
    if (node) send(this, node, agent, this.chance(0.5));
    this.after(20 + this.roll(120), () => this.#load());
  }
}
