/**
 * Agents: one or two pods each, at most one process of a pod alive, which keeps itself connected with the real connector of
 * agentk and executes by `execution.ts`.
 */
import type { Millis } from "../../actors/actor.ts";
import { type Failure, failure } from "../../actors/failure.ts";
import type { AgentId } from "../../actors/ids.ts";
import { Connector } from "../../src/agentk/connector.ts";
import type { Dialled } from "../../src/agentk/dial.ts";
import type { Carrier } from "../../src/link/link.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import { Process } from "../support/process.ts";
import { type Wire, WireEnd } from "../support/wire.ts";
import { execute } from "./execution.ts";
import { LinkOwner, stackOf } from "./links.ts";
import type { World } from "./world.ts";

/** One process of a pod. */
export class PodProcess {
  readonly name: string;
  readonly process: Process;
  readonly connector: Connector;
  readonly wires = new Set<Wire>();
  alive = true;
  stalledUntil: Millis = 0;

  constructor(world: World, pod: Pod, number: number) {
    this.name = `p${number}`;
    this.process = new Process(world.cluster.clock, () => this);
    const owner = new LinkOwner(world, `${pod.name}/${this.name}`, this.process);
    pod.clock = this.process.clock();
    this.connector = new Connector({
      dial: () => this.#dial(world, pod),
      openLink: (options) => {
        const { carrier, events } = options;
        const closed: typeof events.closed = (reason) => {
          if (carrier instanceof WireEnd) world.lost(carrier.wire);
          events.closed(reason);
        };
        return owner.open({ ...options, events: { ...events, closed } });
      },
      execute: (open, stream) => execute(world, pod, open, stream),
      clock: pod.clock,
      random: world.cluster.random,
      identity: { instance: pod.instance, process: this.name, version: "test" },
      services: [],
      backoffInitial: 500,
      backoffMax: 3_000,
      log: {
        info() {},
        warn() {},
        error: (text: string, { err }: { err: unknown }) => world.violation(`${text}: ${stackOf(err)}`),
      },
      connected() {},
    });
  }

  /** Through a balancer, to any node that serves. */
  #dial(world: World, pod: Pod): Dialled {
    const nodes = world.serving();
    const node = nodes[world.roll(nodes.length)];
    if (!node) return refused(this.process, failure("node-gone", "connection refused"));
    const wire = world.wire([this.process, node.process], [`${pod.name}/${this.name}`, node.id], () => true);
    for (const old of this.wires) if (old.isOver) this.wires.delete(old);
    this.wires.add(wire);
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    wire.ends[0].onGone = resolve;
    node.admit(pod, this, wire);
    return { carrier: wire.ends[0], refusal: () => null, ended };
  }

  /** It is gone. `unseen`: nobody is told. */
  end(unseen: boolean): void {
    this.alive = false;
    for (const wire of this.wires) {
      if (unseen) wire.vanish();
      else wire.died(0);
    }
  }
}

/** One pod of an agent. */
export class Pod {
  readonly agent: AgentId;
  readonly instance: string;
  process: PodProcess | null = null;
  clock: Clock;
  readonly #world: World;
  #processes = 0;

  constructor(world: World, agent: AgentId, instance: string) {
    this.#world = world;
    this.agent = agent;
    this.instance = instance;
    this.clock = world.cluster.clock;
  }

  get name(): string {
    return `${this.agent}/${this.instance}`;
  }

  start(): void {
    if (this.process) return;
    this.process = new PodProcess(this.#world, this, ++this.#processes);
  }

  /** Its process dies, and the next starts. */
  restart(unseen: boolean, after: Millis): void {
    const { process } = this;
    if (!process?.alive) return;
    process.end(unseen);
    this.#world.after(after, () => this.#next(process));
  }

  /** It ends as it should, serving what it has, and comes back later. */
  leave(within: Millis, after: Millis): void {
    const { process } = this;
    if (!process?.alive) return;
    void process.connector.drain(within);
    this.#world.after(within + 1_500, () => process.end(false));
    this.#world.after(within + 1_500 + after, () => this.#next(process));
  }

  #next(after: PodProcess): void {
    if (this.process !== after) return;
    after.end(false);
    this.process = null;
    this.start();
  }
}

function refused(process: Process, refusal: Failure): Dialled {
  const carrier: Carrier = {
    maxBatchBytes: 1_024,
    maxBatches: 1,
    write() {},
    onData() {},
    onClosed() {},
    end() {},
    destroy() {},
  };
  process.turn(() => carrier.onClosed(refusal.reason));
  return { carrier, refusal: () => refusal, ended: Promise.resolve() };
}
