/**
 * The messages of the routing actors over a bus, each in a signed envelope. Heartbeats go to the subject of heartbeats,
 * other broadcasts to `all`, the rest to the one process meant. What cannot be believed is dropped and counted.
 */
import type { Millis } from "../../actors/actor.ts";
import type { NodeId } from "../../actors/ids.ts";
import type { Bus, RequestOutcome } from "../bus/bus.ts";
import type { Envelopes } from "../bus/envelopes.ts";
import type { Subjects } from "../bus/subjects.ts";
import type { AskOutcome, Messenger, WireMessage } from "./messenger.ts";

export type BusMessengerOptions = {
  /** Stays its owner's: disposing the messenger ends its subscriptions, not the bus. */
  readonly bus: Bus;
  readonly subjects: Subjects;
  readonly envelopes: Envelopes;
  readonly self: NodeId;
  /** The tag of heartbeats. */
  readonly heartbeat?: string;
};

export class BusMessenger implements Messenger, Disposable {
  onMessage: Messenger["onMessage"] = () => {};
  onConnection: Messenger["onConnection"] = () => {};
  readonly #bus: Bus;
  readonly #subjects: Subjects;
  readonly #envelopes: Envelopes;
  readonly #heartbeat: string;
  readonly #subscriptions = new DisposableStack();
  #inbox: Disposable;

  constructor({ bus, subjects, envelopes, self, heartbeat = "hb" }: BusMessengerOptions) {
    this.#bus = bus;
    this.#subjects = subjects;
    this.#envelopes = envelopes;
    this.#heartbeat = heartbeat;
    for (const subject of [subjects.heartbeat, subjects.all]) this.#subscriptions.use(this.#subscribe(subject));
    this.#inbox = this.#subscribe(subjects.node(self));
    bus.onConnection = (connected) => this.onConnection(connected);
  }

  get connected(): boolean {
    return this.#bus.connected;
  }

  get reachesOthers(): boolean {
    return this.#bus.connected;
  }

  /** We are this process of our name from now on: what was meant for the one before is not heard any more. */
  renamed(self: NodeId): void {
    this.#inbox[Symbol.dispose]();
    this.#envelopes.renamed(self);
    this.#inbox = this.#subscribe(this.#subjects.node(self));
  }

  broadcast({ type, body }: WireMessage): void {
    const subject = type === this.#heartbeat ? this.#subjects.heartbeat : this.#subjects.all;
    this.#bus.publish(subject, this.#envelopes.seal(subject, "", type, body));
  }

  send(to: NodeId, { type, body }: WireMessage): void {
    const subject = this.#subjects.node(to);
    this.#bus.publish(subject, this.#envelopes.seal(subject, "", type, body));
  }

  ask(to: NodeId, { type, body }: WireMessage, within: Millis, settled: (outcome: AskOutcome) => void): void {
    const subject = this.#subjects.node(to);
    let inbox = "";
    const seal = (reply: string) => {
      inbox = reply;
      return this.#envelopes.seal(subject, reply, type, body);
    };
    this.#bus.request(subject, seal, within, (outcome) => settled(this.#outcome(to, inbox, outcome)));
  }

  [Symbol.dispose](): void {
    this.#subscriptions[Symbol.dispose]();
    this.#inbox[Symbol.dispose]();
    this.onMessage = () => {};
    this.onConnection = () => {};
  }

  #subscribe(subject: string): Disposable {
    return this.#bus.subscribe(subject, (payload, reply) => this.#receive(subject, payload, reply));
  }

  #receive(subject: string, payload: Uint8Array, reply: string): void {
    const envelope = this.#envelopes.open(payload, { subject, reply });
    if (!envelope) return;
    const { sender, type, body } = envelope;
    if (reply) this.onMessage(sender, { type, body }, this.#replier(reply));
    else this.onMessage(sender, { type, body });
  }

  /** Only the first answer is sent. */
  #replier(reply: string): (message: WireMessage) => void {
    let answered = false;
    return ({ type, body }) => {
      if (answered) return;
      answered = true;
      this.#bus.publish(reply, this.#envelopes.seal(reply, "", type, body));
    };
  }

  /** An answer that cannot be believed is none. */
  #outcome(from: NodeId, inbox: string, outcome: RequestOutcome): AskOutcome {
    if (outcome.type !== "answer") return outcome;
    const envelope = this.#envelopes.open(outcome.payload, { subject: inbox, reply: "" });
    if (envelope?.sender !== from) return { type: "timeout" };
    return { type: "answer", message: { type: envelope.type, body: envelope.body } };
  }
}
