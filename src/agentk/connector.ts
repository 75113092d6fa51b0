/**
 * Keeps this agent connected to kas. At most one link is being made or is the current one; beside it at most two that were
 * drained serve their streams to the end. A link is closed only after its successor was registered (make before break).
 */
import type { Millis } from "../../actors/actor.ts";
import { type Failure, type FailureCode, failure } from "../../actors/failure.ts";
import { type Hello, type Link, type LinkEvents, type LinkOptions, SERVICE_CAPABILITY } from "../link/link.ts";
import { decodeOpen } from "../link/messages.ts";
import type { Clock } from "../runtime/clock.ts";
import { failureOf } from "../status.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Dial, Dialled } from "./dial.ts";
import type { Executor } from "./executor.ts";

export type Connected = { readonly agentId: number; readonly node: string };

export type ConnectorOptions = {
  readonly dial: Dial;
  readonly openLink: (options: LinkOptions) => Link;
  readonly execute: Executor;
  readonly clock: Clock;
  /** 0 ≤ x < 1. */
  readonly random: () => number;
  /** `process` is new with every start, `instance` the same for every process of a pod. */
  readonly identity: { readonly instance: string; readonly process: string; readonly version: string };
  /** Services callers may reach here; kas lists them. */
  readonly services: Iterable<string>;
  readonly backoffInitial: Millis;
  readonly backoffMax: Millis;
  readonly log: Pick<Logger, "info" | "warn" | "error">;
  readonly connected: (connected: Connected) => void;
  /** A link ended or could not be made. */
  readonly disconnected?: (code: FailureCode) => void;
};

type Session = {
  readonly number: number;
  readonly dialled: Dialled;
  link: Link | null;
  phase: "greeting" | "up" | "draining" | "closing";
  upSince: Millis;
  timer: Disposable | null;
};

/** After this long a link counts as stable, and the next failure starts with the shortest pause again. */
const STABLE_AFTER: Millis = 25_000;
/** kas says READY after at most a second; without it the older link is closed all the same. */
const READY_WITHIN: Millis = 5_000;
const MAX_DRAINING = 2;
/** Links given up that are named in the next HELLO; older ones are long gone at kas. */
const MAX_LOST = 16;
const STREAM_WINDOW = 64 * 1024;
const PROTOCOL_VERSIONS = [1, 1] as const;

export class Connector {
  readonly #options: ConnectorOptions;
  readonly #sessions = new Set<Session>();
  #current: Session | null = null;
  #retry: Disposable | null = null;
  #counter = 0;
  #failures = 0;
  #lost: number[] = [];
  #stopping = false;
  /** Carriers that still flush what was said last, beside those of `#sessions`. */
  readonly #carriers = new Set<Promise<void>>();

  constructor(options: ConnectorOptions) {
    this.#options = options;
    this.#connect();
  }

  /** Can kas reach this agent? */
  get isConnected(): boolean {
    return [...this.#sessions].some(({ phase }) => phase === "up" || phase === "draining");
  }

  /** Links that are open, streams still being served on drained ones included. */
  get links(): number {
    return this.#sessions.size;
  }

  /** Streams being served on all of them. */
  get streams(): number {
    return [...this.#sessions].reduce((sum, { link }) => sum + (link?.streams ?? 0), 0);
  }

  /** Takes nothing new, serves what runs, at most for `within`; then every link is gone and its last bytes have left. */
  async drain(within: Millis): Promise<void> {
    this.#quit();
    const { clock } = this.#options;
    const deadline = clock.schedule(clock.now() + within, () => void this.stop());
    for (const session of [...this.#sessions]) this.#close(session);
    await Promise.all(this.#carriers);
    deadline[Symbol.dispose]();
  }

  /** Ends every link now. */
  async stop(): Promise<void> {
    this.#quit();
    for (const { link } of [...this.#sessions]) link?.destroy(STOPPED);
    await Promise.all(this.#carriers);
  }

  #quit(): void {
    this.#stopping = true;
    this.#retry?.[Symbol.dispose]();
  }

  #connect(): void {
    this.#retry = null;
    if (this.#stopping) return;
    let dialled: Dialled;
    try {
      dialled = this.#options.dial();
    } catch (error) {
      this.#failed(failureOf(error));
      return;
    }
    const gone = dialled.ended.then(() => void this.#carriers.delete(gone));
    this.#carriers.add(gone);
    const number = ++this.#counter;
    const session: Session = { number, dialled, link: null, phase: "greeting", upSince: 0, timer: null };
    this.#sessions.add(session);
    this.#current = session;
    session.link = this.#options.openLink({
      clock: this.#options.clock,
      carrier: dialled.carrier,
      role: "dialler",
      hello: this.#hello(number),
      check,
      events: this.#events(session),
    });
  }

  #hello(link: number): Hello {
    const { instance, process, version } = this.#options.identity;
    return {
      cluster: "",
      name: "agentk",
      role: "agent",
      expects: "",
      versions: PROTOCOL_VERSIONS,
      capabilities: [...this.#options.services].map((service) => `${SERVICE_CAPABILITY}${service}`),
      streamWindow: STREAM_WINDOW,
      instance,
      process,
      link,
      lost: this.#lost,
      version,
      node: "",
      nonce: "",
    };
  }

  #events(session: Session): LinkEvents {
    return {
      up: (peer) => this.#up(session, peer),
      open: (payload, stream) => {
        const open = decodeOpen(payload);
        // Callers take turns, on the way back too: one that downloads much holds up nobody else.
        stream.group?.(open.caller.id);
        return this.#options.execute(open, stream);
      },
      ready: () => this.#ready(session),
      drain: () => this.#drained(session),
      ctl: () => {},
      closed: (reason) => this.#closed(session, reason),
      fault: (err) => this.#options.log.error("a stream of this link failed by a bug", { err }),
    };
  }

  #up(session: Session, peer: Hello): void {
    const { clock, connected, log } = this.#options;
    session.phase = "up";
    session.upSince = clock.now();
    session.timer = clock.schedule(clock.now() + READY_WITHIN, () => this.#ready(session));
    const agentId = Number(peer.instance);
    log.info("connected to kas", { agent_id: agentId, node: peer.name, link: session.number });
    connected({ agentId, node: peer.name });
  }

  #ready(session: Session): void {
    session.timer?.[Symbol.dispose]();
    for (const other of [...this.#sessions]) if (other.number < session.number) this.#close(other);
  }

  #drained(session: Session): void {
    if (session.phase !== "up" || this.#stopping) return;
    session.phase = "draining";
    this.#options.log.info("kas drains this link: connecting anew", { link: session.number });
    this.#makeRoom();
    if (this.#current === session) this.#replace(session);
  }

  /** The oldest drained link gives way to the third. */
  #makeRoom(): void {
    const old = [...this.#sessions].filter(({ phase }) => phase === "draining" || phase === "closing");
    for (const { link } of old.slice(0, -MAX_DRAINING)) {
      link?.destroy(failure("draining", "the agent's links were drained faster than this stream ended"));
    }
  }

  #close(session: Session): void {
    if (session.phase === "closing") return;
    session.phase = "closing";
    session.link?.close();
  }

  #closed(session: Session, reason: Failure): void {
    session.timer?.[Symbol.dispose]();
    this.#sessions.delete(session);
    if (session.phase !== "closing") this.#lost = [...this.#lost, session.number].slice(-MAX_LOST);
    if (this.#current !== session || this.#stopping) return;
    this.#current = null;
    this.#failed(session.dialled.refusal() ?? reason, session);
  }

  /** The current link goes away in order: no pause, unless that happens all the time. */
  #replace(session: Session): void {
    this.#current = null;
    if (this.#isStable(session)) this.#failures = 0;
    if (this.#failures === 0) {
      this.#failures = 1;
      this.#connect();
    } else this.#retryIn(this.#pause());
  }

  #failed(reason: Failure, session?: Session): void {
    if (session && this.#isStable(session)) this.#failures = 0;
    const { backoffMax, random, log, disconnected } = this.#options;
    disconnected?.(reason.code);
    const hopeless = reason.code === "unauthenticated" || reason.code === "forbidden";
    const pause = hopeless ? random() * backoffMax : this.#pause();
    log.warn("not connected to kas", { code: reason.code, reason: reason.reason, retry_in_ms: Math.round(pause) });
    this.#retryIn(pause);
  }

  #isStable({ phase, upSince }: Session): boolean {
    return phase !== "greeting" && this.#options.clock.now() - upSince >= STABLE_AFTER;
  }

  /** Full jitter, so that a thousand agents do not come back at once. */
  #pause(): Millis {
    const { backoffInitial, backoffMax, random } = this.#options;
    return random() * Math.min(backoffMax, backoffInitial * 2 ** this.#failures++);
  }

  #retryIn(pause: Millis): void {
    const { clock } = this.#options;
    this.#retry = clock.schedule(clock.now() + pause, () => this.#connect());
  }
}

const STOPPED = failure("draining", "this agent is stopping");

/** The link itself compares versions. */
const check = ({ role, name }: Hello): Failure | null =>
  role === "kas" ? null : failure("protocol", `${name} is no kas: check --kas-address`);
