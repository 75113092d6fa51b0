/**
 * A cluster, its agents, its callers and its weather, from one seed. 60 s of chaos (see faults.ts), then 25 s of quiet in
 * which everything must become exact. Every fifth seed has no bus at all for a minute.
 */
import type { Millis } from "../../actors/actor.ts";
import { hashText } from "../../actors/hash.ts";
import { type AgentId, type ConnectionId, type NodeId, nameOf } from "../../actors/ids.ts";
import { Cluster, type TestNode } from "../support/cluster.ts";
import type { Process } from "../support/process.ts";
import { Wire } from "../support/wire.ts";
import { Pod, type PodProcess } from "./agents.ts";
import { cutBusy, fault, outage } from "./faults.ts";
import { framesOf } from "./frames.ts";
import { Links } from "./links.ts";
import { Network } from "./network.ts";
import { SimulatedNode } from "./node.ts";
import { SimulatedRequest } from "./streams.ts";
import { checkDraining, lookAround } from "./watchers.ts";

const CHAOS: Millis = 60_000;
const OUTAGE: Millis = 30_000;
const QUIET: Millis = 25_000;
export const AGENTS = 12;
/** The agent of four in ten requests: enough of them over one link for its window to matter, and for a cut to hit some. */
export const BUSY = 1 as AgentId;
const NEVER = Number.POSITIVE_INFINITY;
const SUPERSEDED_WITHIN: Millis = 5_000;

/** A connection as its holder has it. */
export type SimulatedConnection = {
  readonly id: ConnectionId;
  readonly node: TestNode;
  /** The name of that process. */
  readonly holder: NodeId;
  readonly pod: Pod;
  readonly process: PodProcess;
  readonly link: number;
  readonly wire: Wire;
  readonly from: Millis;
  to: Millis;
  /** Its agent's end is gone or hears nothing, and the holder does not know yet. */
  frozen: boolean;
  /** When its holder was told that streams should go elsewhere. */
  drainedAt: Millis;
};

export type Arrival = Pick<SimulatedConnection, "id" | "pod" | "process" | "link" | "wire"> & {
  readonly node: SimulatedNode;
};

export type Tracing = {
  readonly line: (line: string) => void;
  /** Every frame that is written, too. */
  readonly frames: boolean;
};

export class World {
  readonly cluster: Cluster;
  readonly requests: SimulatedRequest[] = [];
  readonly violations: string[] = [];
  readonly pods: Pod[] = [];
  readonly connections: SimulatedConnection[] = [];
  readonly links = new Links();
  readonly network: Network;
  readonly chaos: Millis;
  /** When nodes stood still. */
  readonly stalls: { readonly node: TestNode; readonly from: Millis; readonly to: Millis }[] = [];
  readonly peerWires = new Set<Wire>();
  readonly names: readonly string[];
  busAway = false;
  hash = 0;
  bytes = 0;
  readonly #nodes = new Map<NodeId, SimulatedNode>();
  /** Given up by the agent, perhaps before a node that stood still looked at them. */
  readonly #lost = new WeakSet<Wire>();
  readonly #live = new Map<NodeId, Map<ConnectionId, SimulatedConnection>>();
  readonly #newest = new Map<TestNode, Map<string, number>>();
  readonly #tracing: Tracing | null;

  constructor(seed: number, tracing: Tracing | null = null) {
    this.cluster = new Cluster(seed);
    this.#tracing = tracing;
    this.chaos = CHAOS + (seed % 5 === 0 ? OUTAGE : 0);
    this.names = ["a", "b", "c", "d", "e"].slice(0, 2 + this.roll(4));
    this.network = new Network(this, this.names);
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

  trace(line: string): void {
    this.hash = hashText(`${this.now()} ${line}`, this.hash);
    this.#tracing?.line(`${this.now().toFixed(1)} ${line}`);
  }

  violation(text: string): void {
    this.violations.push(`${text} (t=${Math.round(this.now())})`);
    this.trace(`VIOLATION ${text}`);
  }

  async run(): Promise<void> {
    await this.cluster.clock.pass(this.chaos);
    this.network.heal();
    for (const node of this.alive()) if (!node.messenger.connected) node.messenger.connect(true);
    this.busAway = false;
    await this.cluster.clock.pass(QUIET);
    // A PING may be half arrived at any moment: not at all of them.
    for (let looks = 0; looks < 20 && this.links.bytes > 0; looks++) await this.cluster.clock.pass(7);
  }

  // ---- nodes

  alive(): TestNode[] {
    return [...this.cluster.nodes.values()].filter((node) => node.alive);
  }

  node(name: string): TestNode | undefined {
    return this.alive().find((node) => nameOf(node.id) === name);
  }

  nodeOf(name: string): SimulatedNode | undefined {
    const node = this.node(name);
    return node && this.#nodes.get(node.id);
  }

  nodes(): Iterable<SimulatedNode> {
    return this.#nodes.values();
  }

  serving(): SimulatedNode[] {
    return [...this.#nodes.values()].filter(({ node }) => node.alive && node.routing.phase === "up");
  }

  boot(name: string): void {
    if (this.node(name)) return;
    const node = new SimulatedNode(this, name);
    this.#nodes.set(node.id, node);
    this.#live.set(node.id, new Map());
    this.trace(`boot ${node.id}`);
    node.node.messenger.connected = !this.busAway;
    node.node.routing.join().catch(() => {});
  }

  crash(name: string): void {
    const node = this.nodeOf(name);
    if (!node) return;
    const unseen = this.chance(0.25);
    this.trace(`crash ${node.id}${unseen ? " unseen" : ""}`);
    this.cluster.crash(node.node);
    this.#nodes.delete(node.id);
    for (const id of [...(this.#live.get(node.id)?.keys() ?? [])]) this.closed(node.node, id);
    node.end(unseen);
    this.after(500 + this.roll(8_000), () => this.boot(name));
  }

  drain(name: string): void {
    const node = this.nodeOf(name);
    if (node?.node.routing.phase !== "up" || this.cluster.isStalled(node.node)) return;
    this.trace(`drain ${node.id}`);
    node.drain();
    this.after(5_000, () => {
      node.process.run(() => {
        node.leave();
        this.after(100, () => this.nodeOf(name) === node && this.crash(name));
      });
    });
  }

  /** The newest incarnation of each name that a node ever believed in. */
  newest(node: TestNode): Map<string, number> {
    const known = this.#newest.get(node) ?? new Map<string, number>();
    this.#newest.set(node, known);
    return known;
  }

  // ---- what carries bytes

  wire(processes: readonly [Process, Process], names: readonly [string, string], open: (from: 0 | 1) => boolean): Wire {
    const { clock: time, random } = this.cluster;
    const tracing = this.#tracing;
    return new Wire({
      time,
      random,
      processes,
      open,
      arrived: (from, bytes) => {
        this.bytes += bytes;
        this.hash = (Math.imul(this.hash ^ (2 * bytes + from), 0x01000193) ^ (this.now() * 1_000)) >>> 0;
      },
      ...(tracing?.frames && {
        written: (from: 0 | 1, batch: readonly Uint8Array[]) =>
          tracing.line(`${this.now().toFixed(1)}   ${names[from]} > ${names[1 - from]}: ${framesOf(batch)}`),
      }),
    });
  }

  // ---- agents

  #addAgent(agent: AgentId): void {
    const offline = this.chance(0.15);
    for (let count = 0; count <= this.roll(2); count++) {
      const pod = new Pod(this, agent, `gitlab/agentk-${count}`);
      this.pods.push(pod);
      this.after(2_000 + this.roll(1_500) + (offline ? this.roll(50_000) : 0), () => pod.start());
    }
  }

  connected({ node, id, pod, process, link, wire }: Arrival): void {
    const connection: SimulatedConnection = {
      id,
      node: node.node,
      holder: node.id,
      pod,
      process,
      link,
      wire,
      from: this.now(),
      to: NEVER,
      frozen: this.#lost.has(wire) || wire.ends[0].closed || wire.vanished,
      drainedAt: NEVER,
    };
    this.connections.push(connection);
    this.#live.get(node.id)?.set(id, connection);
    this.trace(`connect ${pod.name} ${process.name}/${link} ${node.id}#${id}`);
  }

  connectionOf(node: TestNode, id: ConnectionId): SimulatedConnection | undefined {
    return node.alive ? this.#live.get(node.id)?.get(id) : undefined;
  }

  liveConnections(): SimulatedConnection[] {
    return this.connections.filter((connection) => connection.to === NEVER);
  }

  /** The holder's link is over. */
  closed(node: TestNode, id: ConnectionId): void {
    const connection = this.#live.get(node.id)?.get(id);
    if (!connection) return;
    this.#live.get(node.id)?.delete(id);
    connection.to = this.now();
    this.trace(`disconnect ${node.id}#${id}`);
  }

  /** The agent's end of it is over. */
  lost(wire: Wire): void {
    this.#lost.add(wire);
    for (const connection of this.#of(wire)) connection.frozen = true;
  }

  #of(wire: Wire): SimulatedConnection[] {
    return this.connections.filter((connection) => connection.wire === wire && connection.to === NEVER);
  }

  drained(node: TestNode, id: ConnectionId): void {
    const connection = this.connectionOf(node, id);
    if (connection) connection.drainedAt = Math.min(connection.drainedAt, this.now());
  }

  checkHanded(connection: SimulatedConnection, agent: AgentId): void {
    this.#checkGeneration(connection);
    checkDraining(this, connection, agent);
  }

  /** A dead link gets nothing once the one that replaced it has been known for a while. */
  #checkGeneration({ frozen, pod, node, id, process, link }: SimulatedConnection): void {
    if (!frozen) return;
    const since = this.now() - SUPERSEDED_WITHIN;
    const newer = this.connections.find(
      (c) =>
        c.pod === pod && !c.frozen && c.to === NEVER && c.from <= since && (c.process !== process || c.link > link),
    );
    if (!newer || !this.network.isCalm(newer.from, this.now())) return;
    this.violation(`I15 agent ${pod.name}: ${node.id}#${id} still gets streams, ${newer.id} replaced it`);
  }

  superseded(node: SimulatedNode, id: ConnectionId): void {
    const connection = this.connectionOf(node.node, id);
    if (!connection || connection.frozen) return;
    const { pod, process } = connection;
    if (pod.process === process && process.alive) {
      this.violation(`I15 a link of ${pod.name} that its process still has was superseded`);
    }
  }

  /** The link breaks; the agent notices, its holder only later: the next link names it as lost. */
  halfOpen(connection: SimulatedConnection): void {
    this.trace(`half-open ${connection.holder}#${connection.id}`);
    connection.wire.vanish();
    connection.frozen = true;
    connection.wire.ends[0].lose("no route to host");
  }

  // ---- what happens when

  #plan(): void {
    const faults = 5 + this.roll(14);
    for (let i = 0; i < faults; i++) this.after(4_000 + this.roll(this.chaos - 15_000), () => fault(this));
    const cuts = 6 + this.roll(12);
    for (let i = 0; i < cuts; i++) this.after(4_000 + this.roll(this.chaos - 10_000), () => cutBusy(this));
    if (this.chaos > CHAOS) this.after(15_000, () => outage(this, 60_000));
    this.after(3_000, () => this.#load());
  }

  #load(): void {
    if (this.now() > this.chaos + 5_000) return;
    const nodes = this.serving().filter(({ node }) => !this.cluster.isStalled(node));
    const node = nodes[this.roll(nodes.length)];
    const agent = this.chance(0.4) ? BUSY : ((1 + this.roll(AGENTS)) as AgentId);
    if (node) new SimulatedRequest(this, node, agent).open();
    this.after(50 + this.roll(300), () => this.#load());
  }
}
