/** Several routing planes in one process under virtual time, with a messenger that may lose, delay, double and cut. */
import { Packr } from "msgpackr";
import type { Millis } from "../../actors/actor.ts";
import type { Failure } from "../../actors/failure.ts";
import {
  type AgentId,
  type ConnectionId,
  incarnationOf,
  type NodeId,
  type NodeName,
  nameOf,
  type RequestId,
} from "../../actors/ids.ts";
import { buildRing, type Homes, type Ring } from "../../actors/ring.ts";
import { Envelopes } from "../../src/bus/envelopes.ts";
import { createSubjects } from "../../src/bus/subjects.ts";
import { watchLinks } from "../../src/cluster/link-watch.ts";
import type { AskOutcome, Messenger, WireMessage } from "../../src/cluster/messenger.ts";
import { type CtlLink, RelayedMessenger } from "../../src/cluster/relayed-messenger.ts";
import type { Attempt, LocalConnection, RequestControl, RouteSpec, Routing } from "../../src/cluster/routing.ts";
import { createRouting } from "../../src/cluster/routing-plane.ts";
import type { RoutingSettings } from "../../src/cluster/routing-settings.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import { TestLinks } from "./links.ts";
import { VirtualClock } from "./virtual-clock.ts";

const packr = new Packr({ useRecords: false });

/** As it would arrive: whatever does not survive the codec does not survive the test. */
export const overTheWire = (message: WireMessage): WireMessage => packr.unpack(packr.pack(message));

/** Fractions in [0, 1), the same for the same seed. */
export function dice(seed: number): () => number {
  let s = seed >>> 0;
  return () => {
    s = (s + 0x6d2b79f5) | 0;
    let t = Math.imul(s ^ (s >>> 15), 1 | s);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What the network does to one message: when its copies arrive, in ms from now. None: lost. */
export type Weather = (from: NodeId, to: NodeId, message: WireMessage) => readonly Millis[];

const subjects = createSubjects("kas", "test");
const secrets = [new Uint8Array(32).fill(7)];

export type TestNode = {
  id: NodeId;
  readonly routing: Routing;
  readonly registered: ConnectionId[];
  readonly superseded: ConnectionId[];
  readonly deposed: Failure[];
  readonly logged: string[];
  readonly messenger: TestMessenger;
  readonly relay: RelayedMessenger;
  readonly links: TestLinks;
  alive: boolean;
  /** Until then its process does nothing. */
  stalledUntil: Millis;
};

const rings = new Map<string, Ring>();

/** The table is a pure function of the names: built once for all tests of a process. */
function sharedRing(names: readonly NodeName[], homes: Homes): Ring {
  const key = `${homes} ${names.join()}`;
  const ring = rings.get(key) ?? buildRing(names, homes);
  rings.set(key, ring);
  return ring;
}

class TestMessenger implements Messenger {
  onMessage: Messenger["onMessage"] = () => {};
  onConnection: Messenger["onConnection"] = () => {};
  connected = true;
  readonly #cluster: Cluster;
  #self: NodeId;

  constructor(cluster: Cluster, self: NodeId) {
    this.#cluster = cluster;
    this.#self = self;
  }

  get reachesOthers(): boolean {
    return this.connected;
  }

  renamed(self: NodeId): void {
    this.#self = self;
  }

  broadcast(message: WireMessage): void {
    for (const to of this.#cluster.nodes.keys()) if (to !== this.#self) this.send(to, message);
  }

  send(to: NodeId, message: WireMessage): void {
    this.#cluster.carry(this.#self, to, message, null);
  }

  ask(to: NodeId, message: WireMessage, within: Millis, settled: (outcome: AskOutcome) => void): void {
    let over = false;
    const { clock } = this.#cluster;
    const settle = (outcome: AskOutcome) => {
      if (over) return;
      over = true;
      timer[Symbol.dispose]();
      const node = this.#cluster.nodes.get(this.#self);
      if (node) this.#cluster.whenAwake(node, () => settled(outcome));
    };
    const timer = clock.schedule(clock.now() + within, () => settle({ type: "timeout" }));
    this.#cluster.carry(this.#self, to, message, settle);
  }

  /** The bus comes or goes. */
  connect(connected: boolean): void {
    this.connected = connected;
    this.onConnection(connected);
  }
}

export type StartOptions = {
  readonly alone?: boolean;
  readonly settings?: Partial<RoutingSettings>;
  readonly incarnation?: number;
  /** Takes a higher incarnation when others remember one, instead of failing to join. */
  readonly mayRename?: boolean;
  /** Called besides what the node writes down. */
  readonly onSuperseded?: (connection: ConnectionId) => void;
  readonly onRegistered?: (connection: ConnectionId) => void;
  /** Links that carry bytes, instead of those of `links.ts`; whoever gives them follows members and watches them. */
  readonly links?: LinkSource;
};

export type LinkSource = {
  entries(): Iterable<readonly [NodeId, CtlLink]>;
  to(node: NodeId): CtlLink | null;
};

export class Cluster {
  readonly clock = new VirtualClock();
  readonly nodes = new Map<NodeId, TestNode>();
  /** Messages handed to the network. */
  sent = 0;
  weather: Weather = () => [1];
  /** Are there peer links? Without them nodes have only the bus. */
  linked = false;
  /** Does anything that `from` sends over a link reach `to`? */
  linkOpen: (from: NodeId, to: NodeId) => boolean = () => true;
  /** Told of every message that arrives. */
  observe: (from: NodeId, to: NodeId, message: WireMessage) => void = () => {};
  readonly random: () => number;

  constructor(seed = 1) {
    this.random = dice(seed);
  }

  start(
    name: string,
    {
      alone = false,
      settings = {},
      incarnation = 1_000_000 + Math.floor(this.clock.now()),
      mayRename = false,
      onSuperseded,
      onRegistered,
      links: source,
    }: StartOptions = {},
  ): TestNode {
    const id = `${name}.${incarnation}` as NodeId;
    const messenger = new TestMessenger(this, id);
    const envelopes = new Envelopes({ cluster: "test", self: id, secrets });
    const links = new TestLinks(this, () => node);
    const clock = this.#clockOf(() => node);
    const relay = new RelayedMessenger({
      bus: messenger,
      envelopes,
      subjects,
      clock,
      self: () => node.id,
      links: () => (source ?? links).entries(),
      linkTo: (to) => (source ?? links).to(to),
      silentAfter: 2_500,
    });
    const registered: ConnectionId[] = [];
    const superseded: ConnectionId[] = [];
    const deposed: Failure[] = [];
    const logged: string[] = [];
    const routing = createRouting({
      name: nameOf(id),
      incarnation: incarnationOf(id),
      address: `${name}:8155`,
      messenger: alone ? null : relay,
      clock,
      wallClock: () => 1_700_000_000_000 + this.clock.now(),
      random: this.random,
      holder: {
        registered: (connection) => {
          registered.push(connection);
          onRegistered?.(connection);
        },
        superseded: (connection) => {
          superseded.push(connection);
          onSuperseded?.(connection);
        },
      },
      log: (text, error) => logged.push(`${text}: ${String(error)}`),
      deposed: (reason) => deposed.push(reason),
      ...(mayRename && {
        renamed: (self: NodeId) => {
          this.nodes.delete(node.id);
          this.nodes.set(self, node);
          node.id = self;
          messenger.renamed(self);
          envelopes.renamed(self);
        },
      }),
      settings,
      buildRing: sharedRing,
    });
    const written = { registered, superseded, deposed, logged };
    const node: TestNode = { id, routing, ...written, messenger, relay, links, alive: true, stalledUntil: 0 };
    this.nodes.set(id, node);
    if (this.linked && !alone) {
      routing.onMembers = (members, lost) => links.follow([...members, ...lost]);
      links.tick();
      watchLinks({ clock, links: () => links.entries(), heard: (to, at) => routing.peerHeard(to, at) });
    }
    return node;
  }

  /** The process is gone, without a word. */
  crash(node: TestNode): void {
    node.alive = false;
  }

  /** Time of one process: it stops with it. */
  #clockOf(node: () => TestNode): Clock {
    return {
      now: () => this.clock.now(),
      schedule: (at, run) => {
        let wait = this.clock.schedule(at, () => {
          const { stalledUntil, alive } = node();
          if (!alive) return;
          if (stalledUntil <= this.clock.now()) run();
          // A timer that is disposed while its process stands still must not run after it.
          else wait = this.#clockOf(node).schedule(stalledUntil, run);
        });
        return { [Symbol.dispose]: () => wait[Symbol.dispose]() };
      },
    };
  }

  isStalled(node: TestNode): boolean {
    return node.stalledUntil > this.clock.now();
  }

  /** The process does nothing for a while; what comes meanwhile it takes in a burst. */
  stall(node: TestNode, lasts: Millis): void {
    node.stalledUntil = Math.max(node.stalledUntil, this.clock.now() + lasts);
  }

  /** Runs something in the node's process: now, after its stall, or never. */
  whenAwake(node: TestNode, run: () => void): void {
    if (!node.alive) return;
    if (!this.isStalled(node)) run();
    else this.clock.schedule(node.stalledUntil, () => this.whenAwake(node, run));
  }

  carryCtl(from: NodeId, to: NodeId, payload: Uint8Array): void {
    this.sent++;
    const bytes = payload.slice();
    this.clock.schedule(this.clock.now() + 1 + Math.floor(3 * this.random()), () => {
      const target = this.nodes.get(to);
      const answer = { ctl: (reply: Uint8Array) => this.carryCtl(to, from, reply) };
      if (target && this.linkOpen(from, to)) this.whenAwake(target, () => target.relay.receive(bytes, answer));
    });
  }

  advance(by: Millis): void {
    this.clock.advance(by);
  }

  carry(from: NodeId, to: NodeId, message: WireMessage, settle: ((outcome: AskOutcome) => void) | null): void {
    const sender = this.nodes.get(from);
    if (!sender?.alive || !sender.messenger.connected) return;
    this.sent++;
    const bytes = overTheWire(message);
    const target = this.nodes.get(to);
    if (!target?.alive) {
      if (settle) this.clock.schedule(this.clock.now() + 1, () => settle({ type: "no-responders" }));
      return;
    }
    for (const delay of this.weather(from, to, message)) {
      this.clock.schedule(this.clock.now() + delay, () => this.#arrive(from, to, bytes, settle));
    }
  }

  #arrive(from: NodeId, to: NodeId, message: WireMessage, settle: ((outcome: AskOutcome) => void) | null): void {
    const target = this.nodes.get(to);
    if (!target?.alive || !target.messenger.connected) return;
    this.whenAwake(target, () => this.#receive(target, from, message, settle));
  }

  #receive(target: TestNode, from: NodeId, message: WireMessage, settle: ((outcome: AskOutcome) => void) | null): void {
    const to = target.id;
    this.observe(from, to, message);
    if (!settle) {
      target.messenger.onMessage(from, message);
      return;
    }
    target.messenger.onMessage(from, message, (answer) => {
      this.sent++;
      const bytes = overTheWire(answer);
      for (const delay of this.weather(to, from, answer)) {
        this.clock.schedule(this.clock.now() + delay, () => settle({ type: "answer", message: bytes }));
      }
    });
  }
}

/** A connection of an agent's only process, unless said otherwise. */
export const local = (agentId: AgentId, changes: Partial<LocalConnection> = {}): LocalConnection => ({
  agentId,
  instance: "gitlab/agentk-0",
  process: "p1",
  link: 1,
  lost: [],
  ...changes,
});

export type Observed = {
  readonly attempts: Attempt[];
  readonly failures: Failure[];
  readonly control: RequestControl;
};

let requests = 0;

/** Sends a request and writes down what routing decides. */
export function outcomeOf(node: TestNode, agentId: AgentId, changes: Partial<RouteSpec> = {}): Observed {
  const attempts: Attempt[] = [];
  const failures: Failure[] = [];
  const requestId = `${node.id}/${++requests}` as RequestId;
  const spec: RouteSpec = { requestId, agentId, acceptWithin: 20_000, timeLeft: 0, idempotent: false, ...changes };
  const control = node.routing.request(spec, {
    attempt: (attempt) => attempts.push(attempt),
    fail: (failure) => failures.push(failure),
  });
  return { attempts, failures, control };
}
