/**
 * The messages of the routing actors over the bus while it carries them, else over the peer link to the one meant, in the
 * same signed envelopes. A node is off the bus while ours is away, or when nothing came from it there for a while.
 * Nothing is passed on for a third: a link carries only what its two ends tell each other.
 */
import type { Millis } from "../../actors/actor.ts";
import type { NodeId } from "../../actors/ids.ts";
import type { Envelope, Envelopes } from "../bus/envelopes.ts";
import type { Subjects } from "../bus/subjects.ts";
import type { Clock } from "../runtime/clock.ts";
import type { AskOutcome, Messenger, WireMessage } from "./messenger.ts";

/** What this needs of a link: CTL frames. */
export type CtlLink = { ctl(payload: Uint8Array): void };

export type RelayedMessengerOptions = {
  /** Stays its owner's. */
  readonly bus: Messenger;
  /** The very ones of the bus, so that nothing is taken twice. */
  readonly envelopes: Envelopes;
  readonly subjects: Subjects;
  readonly clock: Clock;
  readonly self: () => NodeId;
  /** Links that are up. */
  readonly links: () => Iterable<readonly [NodeId, CtlLink]>;
  readonly linkTo: (node: NodeId) => CtlLink | null;
  /** Who said nothing on the bus for this long is told over its link; longer than two heartbeats. */
  readonly silentAfter: Millis;
};

type Waiting = {
  readonly of: NodeId;
  readonly settled: (outcome: AskOutcome) => void;
  readonly timer: Disposable;
};

/** Asks over links that wait; above it one ends as `timeout` at once. */
const MOST_ASKS = 10_000;

export class RelayedMessenger implements Messenger, Disposable {
  onMessage: Messenger["onMessage"] = () => {};
  onConnection: Messenger["onConnection"] = () => {};
  readonly #options: RelayedMessengerOptions;
  /** When each node was last heard on the bus. */
  readonly #heard = new Map<NodeId, Millis>();
  readonly #waiting = new Map<string, Waiting>();
  #asks = 0;

  constructor(options: RelayedMessengerOptions) {
    this.#options = options;
    const { bus, clock } = options;
    bus.onMessage = (from, message, reply) => {
      this.#heard.set(from, clock.now());
      this.onMessage(from, message, reply);
    };
    bus.onConnection = (connected) => this.onConnection(connected);
  }

  get connected(): boolean {
    return this.#options.bus.connected;
  }

  get reachesOthers(): boolean {
    if (this.connected) return true;
    for (const _ of this.#options.links()) return true;
    return false;
  }

  broadcast(message: WireMessage): void {
    const { bus, links } = this.#options;
    if (bus.connected) bus.broadcast(message);
    this.#forget();
    for (const [node, link] of links()) if (!bus.connected || !this.#heard.has(node)) this.#tell(node, link, message);
  }

  send(to: NodeId, message: WireMessage): void {
    const link = this.#isOnBus(to) ? null : this.#options.linkTo(to);
    if (link) this.#tell(to, link, message);
    else this.#options.bus.send(to, message);
  }

  ask(to: NodeId, message: WireMessage, within: Millis, settled: (outcome: AskOutcome) => void): void {
    const { bus, clock, linkTo } = this.#options;
    const link = this.#isOnBus(to) ? null : linkTo(to);
    if (link) {
      this.#askOver(link, to, message, within, settled);
      return;
    }
    if (!bus.connected) {
      clock.schedule(clock.now(), () => settled({ type: "timeout" }));
      return;
    }
    const until = clock.now() + within;
    bus.ask(to, message, within, (outcome) => {
      const other = outcome.type === "no-responders" ? linkTo(to) : null;
      if (other) this.#askOver(other, to, message, until - clock.now(), settled);
      else settled(outcome);
    });
  }

  /** A CTL frame came; the answer goes back over `link`, where it came from. */
  receive(payload: Uint8Array, link: CtlLink): void {
    const { envelopes, subjects, self } = this.#options;
    const envelope = envelopes.open(payload);
    if (!envelope) return;
    const { sender, subject, reply, type, body } = envelope;
    if (this.#waiting.has(subject)) this.#answered(envelope);
    else if (subject !== subjects.node(self())) return;
    else if (reply) this.onMessage(sender, { type, body }, this.#replier(reply, link));
    else this.onMessage(sender, { type, body });
  }

  [Symbol.dispose](): void {
    for (const reply of [...this.#waiting.keys()]) this.#settle(reply, { type: "timeout" });
    this.onMessage = () => {};
    this.onConnection = () => {};
  }

  #isOnBus(node: NodeId): boolean {
    const { bus, clock, silentAfter } = this.#options;
    const heard = this.#heard.get(node);
    return bus.connected && heard !== undefined && clock.now() - heard <= silentAfter;
  }

  #forget(): void {
    const { clock, silentAfter } = this.#options;
    for (const [node, at] of this.#heard) if (clock.now() - at > silentAfter) this.#heard.delete(node);
  }

  #tell(to: NodeId, link: CtlLink, { type, body }: WireMessage): void {
    const { envelopes, subjects } = this.#options;
    link.ctl(envelopes.seal(subjects.node(to), "", type, body));
  }

  #askOver(
    link: CtlLink,
    to: NodeId,
    { type, body }: WireMessage,
    within: Millis,
    settled: (outcome: AskOutcome) => void,
  ): void {
    const { envelopes, subjects, clock, self } = this.#options;
    const full = this.#waiting.size >= MOST_ASKS;
    const reply = `${self()}/${++this.#asks}`;
    const timer = clock.schedule(clock.now() + (full ? 0 : within), () => this.#settle(reply, { type: "timeout" }));
    this.#waiting.set(reply, { of: to, settled, timer });
    if (!full) link.ctl(envelopes.seal(subjects.node(to), reply, type, body));
  }

  /** An answer of anybody else than the one asked is none. */
  #answered({ subject, sender, type, body }: Envelope): void {
    if (this.#waiting.get(subject)?.of === sender) this.#settle(subject, { type: "answer", message: { type, body } });
  }

  #settle(reply: string, outcome: AskOutcome): void {
    const waiting = this.#waiting.get(reply);
    if (!waiting) return;
    this.#waiting.delete(reply);
    waiting.timer[Symbol.dispose]();
    waiting.settled(outcome);
  }

  /** Only the first answer is sent. */
  #replier(reply: string, link: CtlLink): (message: WireMessage) => void {
    let answered = false;
    return ({ type, body }) => {
      if (answered) return;
      answered = true;
      link.ctl(this.#options.envelopes.seal(reply, "", type, body));
    };
  }
}
