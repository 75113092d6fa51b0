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
import type { AskOutcome, Messenger, WireMessage } from "../../src/cluster/messenger.ts";
import type { Attempt, LocalConnection, RequestControl, RouteSpec, Routing } from "../../src/cluster/routing.ts";
import { createRouting } from "../../src/cluster/routing-plane.ts";
import type { RoutingSettings } from "../../src/cluster/routing-settings.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import { VirtualClock } from "./virtual-clock.ts";

const packr = new Packr({ useRecords: false });

/** As it would arrive: whatever does not survive the codec does not survive the test. */
const overTheWire = (message: WireMessage): WireMessage => packr.unpack(packr.pack(message));

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

export type TestNode = {
  readonly id: NodeId;
  readonly routing: Routing;
  readonly registered: ConnectionId[];
  readonly superseded: ConnectionId[];
  readonly deposed: Failure[];
  readonly logged: string[];
  readonly messenger: TestMessenger;
  alive: boolean;
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
  readonly #self: NodeId;

  constructor(cluster: Cluster, self: NodeId) {
    this.#cluster = cluster;
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
      if (this.#cluster.nodes.get(this.#self)?.alive) settled(outcome);
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
  /** Called besides what the node writes down. */
  readonly onSuperseded?: (connection: ConnectionId) => void;
};

export class Cluster {
  readonly clock = new VirtualClock();
  readonly nodes = new Map<NodeId, TestNode>();
  /** Messages handed to the network. */
  sent = 0;
  weather: Weather = () => [1];
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
      onSuperseded,
    }: StartOptions = {},
  ): TestNode {
    const id = `${name}.${incarnation}` as NodeId;
    const messenger = new TestMessenger(this, id);
    const registered: ConnectionId[] = [];
    const superseded: ConnectionId[] = [];
    const deposed: Failure[] = [];
    const logged: string[] = [];
    const routing = createRouting({
      name: nameOf(id),
      incarnation: incarnationOf(id),
      address: `${name}:8155`,
      messenger: alone ? null : messenger,
      clock: this.#clockOf(id),
      wallClock: () => 1_700_000_000_000 + this.clock.now(),
      random: this.random,
      holder: {
        registered: (connection) => registered.push(connection),
        superseded: (connection) => {
          superseded.push(connection);
          onSuperseded?.(connection);
        },
      },
      log: (text, error) => logged.push(`${text}: ${String(error)}`),
      deposed: (reason) => deposed.push(reason),
      settings,
      buildRing: sharedRing,
    });
    const node: TestNode = { id, routing, registered, superseded, deposed, logged, messenger, alive: true };
    this.nodes.set(id, node);
    return node;
  }

  /** The process is gone, without a word. */
  crash(node: TestNode): void {
    node.alive = false;
  }

  /** Time of one process: it stops with it. */
  #clockOf(id: NodeId): Clock {
    return {
      now: () => this.clock.now(),
      schedule: (at, run) => this.clock.schedule(at, () => this.nodes.get(id)?.alive && run()),
    };
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
