/**
 * The bus of a cluster that lives in one process: tests, simulation of outages, and a node without NATS. Buses of one
 * broker hear each other. Nothing is delivered before a later turn, and never in another order than published.
 */
import type { Millis } from "../../actors/actor.ts";
import { type Clock, systemClock } from "../runtime/clock.ts";
import {
  type Bus,
  type BusCounts,
  type BusProblem,
  MAX_PAYLOAD_BYTES,
  type Receive,
  type RequestOutcome,
} from "./bus.ts";
import { Requests } from "./requests.ts";

/** Messages under way at once; more are dropped. */
const MAX_UNDERWAY = 65_536;

export type MemoryBrokerOptions = {
  readonly clock?: Clock;
  /** Runs something on a later turn, in order. */
  readonly later?: (run: () => void) => void;
  readonly problem?: BusProblem;
};

type Subscriber = { readonly bus: MemoryBus; readonly receive: Receive };

export class MemoryBroker {
  readonly clock: Clock;
  readonly later: (run: () => void) => void;
  readonly problem: BusProblem;
  readonly #subscribers = new Map<string, Set<Subscriber>>();
  readonly #buses = new Set<MemoryBus>();
  #underway = 0;
  #up = true;
  #inboxes = 0;

  constructor({ clock = systemClock, later = setImmediate, problem = () => {} }: MemoryBrokerOptions = {}) {
    this.clock = clock;
    this.later = (run) => void later(run);
    this.problem = problem;
  }

  get up(): boolean {
    return this.#up;
  }

  connect(name: string): Bus {
    this.#inboxes += 1;
    const bus = new MemoryBus(this, `_INBOX_${name}.${this.#inboxes}`, () => this.#buses.delete(bus));
    this.#buses.add(bus);
    return bus;
  }

  /** The broker goes away: what is under way is lost, as in a crash. */
  stop(): void {
    this.#up = false;
    for (const bus of this.#buses) bus.changed(false);
  }

  start(): void {
    this.#up = true;
    for (const bus of this.#buses) bus.changed(true);
  }

  subscribe(subject: string, subscriber: Subscriber): Disposable {
    const known = this.#subscribers.get(subject) ?? new Set();
    this.#subscribers.set(subject, known.add(subscriber));
    return {
      [Symbol.dispose]: () => {
        known.delete(subscriber);
        if (known.size === 0 && this.#subscribers.get(subject) === known) this.#subscribers.delete(subject);
      },
    };
  }

  /** False when it was dropped. `refused` is called when nobody subscribes. */
  deliver(subject: string, payload: Uint8Array, reply: string, refused: () => void): boolean {
    if (!this.#up || this.#underway >= MAX_UNDERWAY) return false;
    this.#underway += 1;
    const copy = payload.slice();
    this.later(() => {
      this.#underway -= 1;
      if (!this.#up) return;
      const subscribers = [...(this.#subscribers.get(subject) ?? [])];
      if (subscribers.length === 0) refused();
      for (const { bus, receive } of subscribers) bus.receive(receive, copy, reply);
    });
    return true;
  }
}

class MemoryBus implements Bus {
  onConnection: (connected: boolean) => void = () => {};
  readonly #broker: MemoryBroker;
  readonly #requests: Requests;
  readonly #leave: () => void;
  readonly #subscriptions = new Set<Disposable>();
  #closed = false;
  #published = 0;
  #received = 0;
  #dropped = 0;
  #reconnects = 0;

  constructor(broker: MemoryBroker, inbox: string, leave: () => void) {
    this.#broker = broker;
    this.#requests = new Requests(inbox, broker.clock);
    this.#leave = leave;
  }

  get connected(): boolean {
    return this.#broker.up && !this.#closed;
  }

  publish(subject: string, payload: Uint8Array, reply = ""): void {
    this.#deliver(subject, payload, reply, () => {});
  }

  subscribe(subject: string, receive: Receive): Disposable {
    if (this.#closed) return { [Symbol.dispose]() {} };
    const held = this.#broker.subscribe(subject, { bus: this, receive });
    const subscription = {
      [Symbol.dispose]: () => {
        this.#subscriptions.delete(subscription);
        held[Symbol.dispose]();
      },
    };
    this.#subscriptions.add(subscription);
    return subscription;
  }

  request(
    subject: string,
    payload: (reply: string) => Uint8Array,
    within: Millis,
    settled: (outcome: RequestOutcome) => void,
  ): void {
    const inbox = new DisposableStack();
    const reply = this.#requests.open(this.#closed ? 0 : within, (outcome) => {
      inbox[Symbol.dispose]();
      settled(outcome);
    });
    if (!reply) {
      this.#dropped += 1;
      return;
    }
    const receive: Receive = (bytes) => this.#requests.settle(reply, { type: "answer", payload: bytes });
    inbox.use(this.#broker.subscribe(reply, { bus: this, receive }));
    this.#deliver(subject, payload(reply), reply, () => this.#requests.settle(reply, { type: "no-responders" }));
  }

  async flush(): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#broker.later(resolve);
    await promise;
    return this.connected;
  }

  counts(): BusCounts {
    return {
      published: this.#published,
      received: this.#received,
      dropped: this.#dropped,
      reconnects: this.#reconnects,
      subscriptions: this.#subscriptions.size,
      requests: this.#requests.size,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const subscription of [...this.#subscriptions]) subscription[Symbol.dispose]();
    this.#requests[Symbol.dispose]();
    this.#leave();
  }

  /** Called by the broker. */
  changed(connected: boolean): void {
    if (connected) this.#reconnects += 1;
    this.#broker.later(() => {
      if (this.connected === connected && !this.#closed) this.onConnection(connected);
    });
  }

  /** Called by the broker. */
  receive(receive: Receive, payload: Uint8Array, reply: string): void {
    if (this.#closed) return;
    this.#received += 1;
    try {
      receive(payload, reply);
    } catch (cause) {
      this.#broker.problem("a handler of the bus failed", cause);
    }
  }

  #deliver(subject: string, payload: Uint8Array, reply: string, refused: () => void): void {
    const fits = !this.#closed && payload.length <= MAX_PAYLOAD_BYTES;
    if (fits && this.#broker.deliver(subject, payload, reply, refused)) this.#published += 1;
    else this.#dropped += 1;
  }
}
