/**
 * The bus over core NATS. It exists from the start, connected or not, and never stops trying. Nothing is kept for a
 * server that is away or does not read: what cannot leave now is dropped and counted.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { connect, type Msg, type NatsConnection, type Subscription, type TlsOptions } from "@nats-io/transport-node";
import type { Millis } from "../../actors/actor.ts";
import type { NodeName } from "../../actors/ids.ts";
import { type Clock, systemClock } from "../runtime/clock.ts";
import {
  type Bus,
  type BusCounts,
  type BusProblem,
  MAX_PAYLOAD_BYTES,
  type Receive,
  type RequestOutcome,
} from "./bus.ts";
import { authenticators, type NatsCredentials, serverAddress } from "./nats-auth.ts";
import { Outflow } from "./outflow.ts";
import { Requests } from "./requests.ts";
import { inboxPrefix } from "./subjects.ts";

export type NatsOptions = NatsCredentials & {
  readonly name: NodeName;
  /** Present, or a server that starts with `tls://`: TLS is required of all. PEM files. */
  readonly tls?: Pick<TlsOptions, "caFile" | "certFile" | "keyFile"> | undefined;
  readonly pingInterval?: Millis;
  /** Between two attempts at one server; as much again, at random, is added. */
  readonly reconnectWait?: Millis;
  /** For one attempt, handshake included. */
  readonly dialTimeout?: Millis;
  readonly problem?: BusProblem;
  readonly clock?: Clock;
};

/** How long the last messages may take to leave when the bus is disposed. */
const FAREWELL_MS = 1_000;
const RECONNECT_WAIT_MS = 500;

/** Returns at once, usually not yet connected: `onConnection` tells. */
export const connectNats = (options: NatsOptions): Bus => new NatsBus(options);

type Entry = { readonly subject: string; readonly receive: (message: Msg) => void; live: Subscription | null };

class NatsBus implements Bus {
  onConnection: (connected: boolean) => void = () => {};
  readonly #options: NatsOptions;
  readonly #problem: BusProblem;
  readonly #requests: Requests;
  readonly #outflow = new Outflow();
  readonly #entries = new Set<Entry>();
  readonly #running: Promise<void>;
  #connection: NatsConnection | null = null;
  #connected = false;
  #connectedBefore = false;
  #closed = false;
  readonly #closing = new AbortController();
  #published = 0;
  #received = 0;
  #dropped = 0;
  #reconnects = 0;

  constructor(options: NatsOptions) {
    this.#options = options;
    this.#problem = options.problem ?? (() => {});
    const inbox = `${inboxPrefix(options.name)}.${randomBytes(12).toString("hex")}`;
    this.#requests = new Requests(inbox, options.clock ?? systemClock);
    this.#entries.add({ subject: `${inbox}.*`, receive: (message) => this.#answered(message), live: null });
    this.#running = this.#run();
  }

  get connected(): boolean {
    return this.#connected;
  }

  publish(subject: string, payload: Uint8Array, reply = ""): void {
    const connection = this.#connection;
    if (!connection || !this.#connected || payload.length > MAX_PAYLOAD_BYTES || !this.#outflow.take(payload.length)) {
      this.#dropped += 1;
      return;
    }
    try {
      connection.publish(subject, payload, { reply });
      this.#published += 1;
    } catch (cause) {
      this.#dropped += 1;
      this.#problem(`cannot publish on ${subject}`, cause);
    }
    this.#outflow.confirm(() => connection.flush());
  }

  subscribe(subject: string, receive: Receive): Disposable {
    const entry: Entry = {
      subject,
      receive: (message) => {
        this.#received += 1;
        receive(message.data, message.reply ?? "");
      },
      live: null,
    };
    if (!this.#closed) this.#entries.add(entry);
    if (this.#connection) this.#open(this.#connection, entry);
    return {
      [Symbol.dispose]: () => {
        this.#entries.delete(entry);
        entry.live?.unsubscribe();
        entry.live = null;
      },
    };
  }

  request(
    subject: string,
    payload: (reply: string) => Uint8Array,
    within: Millis,
    settled: (outcome: RequestOutcome) => void,
  ): void {
    const reply = this.#requests.open(this.#closed ? 0 : within, settled);
    if (reply) this.publish(subject, payload(reply), reply);
    else this.#dropped += 1;
  }

  async flush(within: Millis): Promise<boolean> {
    const connection = this.#connection;
    if (!connection || !this.#connected) return false;
    const given = new AbortController();
    const late = pause(within, false, { signal: given.signal, ref: false }).catch(() => false);
    const flushed = connection.flush().then(
      () => true,
      () => false,
    );
    const done = await Promise.race([flushed, late]);
    given.abort();
    return done;
  }

  counts(): BusCounts {
    return {
      published: this.#published,
      received: this.#received,
      dropped: this.#dropped,
      reconnects: this.#reconnects,
      subscriptions: this.#entries.size - (this.#closed ? 0 : 1),
      requests: this.#requests.size,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#closed) {
      await this.flush(FAREWELL_MS);
      this.#closed = true;
      this.#connected = false;
      this.#closing.abort();
      this.#requests[Symbol.dispose]();
      this.#entries.clear();
      await this.#connection?.close();
    }
    await this.#running;
  }

  /**
   * The client reconnects by itself for ever, but waits for its first connection without saying why it has none and without
   * a way to stop it: so the first one is waited for here, with the same pauses. A client that gave up is replaced.
   */
  async #run(): Promise<void> {
    while (!this.#closed) {
      try {
        await this.#serve(await connect(this.#connectOptions()));
      } catch (cause) {
        if (!this.#closed) this.#problem("cannot connect to NATS yet, and will keep trying", cause);
      }
      this.#changed(false);
      const { reconnectWait = RECONNECT_WAIT_MS } = this.#options;
      const wait = reconnectWait * (1 + Math.random());
      await pause(wait, null, { signal: this.#closing.signal, ref: false }).catch(() => null);
    }
  }

  async #serve(connection: NatsConnection): Promise<void> {
    if (this.#closed) {
      await connection.close();
      return;
    }
    this.#connection = connection;
    for (const entry of this.#entries) this.#open(connection, entry);
    this.#changed(true);
    for await (const status of connection.status()) {
      if (status.type === "disconnect" || status.type === "staleConnection") this.#changed(false);
      if (status.type === "reconnect") this.#changed(true);
      if (status.type === "error") this.#problem("NATS refused something", status.error);
    }
    this.#connection = null;
    const reason = await connection.closed();
    if (reason && !this.#closed) this.#problem("the connection to NATS was closed", reason);
  }

  #connectOptions() {
    const {
      servers,
      name,
      tls,
      pingInterval = 5_000,
      reconnectWait = RECONNECT_WAIT_MS,
      dialTimeout = 5_000,
    } = this.#options;
    const secure = tls ?? (servers.some((server) => server.startsWith("tls://")) ? {} : undefined);
    const authenticator = authenticators(this.#options, this.#problem);
    return {
      servers: servers.map(serverAddress),
      name,
      inboxPrefix: inboxPrefix(name),
      pingInterval,
      maxPingOut: 2,
      timeout: dialTimeout,
      maxReconnectAttempts: -1,
      /** Credentials may be replaced while we are refused: keep trying. */
      ignoreAuthErrorAbort: true,
      reconnectTimeWait: reconnectWait,
      reconnectJitter: reconnectWait,
      reconnectJitterTLS: reconnectWait,
      noAsyncTraces: true,
      ...(authenticator.length > 0 && { authenticator }),
      ...(secure && { tls: secure }),
    };
  }

  #open(connection: NatsConnection, entry: Entry): void {
    const { subject, receive } = entry;
    const callback = (error: Error | null, message: Msg) => {
      if (error) {
        this.#problem(`the subscription of ${subject} ended: give this NATS user the permission to subscribe`, error);
        return;
      }
      try {
        receive(message); // an error thrown into the client would end its connection
      } catch (cause) {
        this.#problem("a handler of the bus failed", cause);
      }
    };
    entry.live = connection.subscribe(subject, { callback });
  }

  #answered(message: Msg): void {
    if (message.headers?.code === 503 && message.data.length === 0) {
      this.#requests.settle(message.subject, { type: "no-responders" });
    } else {
      this.#requests.settle(message.subject, { type: "answer", payload: message.data });
    }
  }

  #changed(connected: boolean): void {
    if (this.#connected === connected) return;
    this.#connected = connected;
    this.#outflow.reset();
    if (connected && this.#connectedBefore) this.#reconnects += 1;
    this.#connectedBefore ||= connected;
    if (!this.#closed) this.onConnection(connected);
  }
}
