/**
 * A link: many streams between two processes over one carrier. The same contract on the agent link and the peer link;
 * `multiplexer.ts` implements it, the decisions are those of `actors/link.ts`.
 */
import type { Millis } from "../../actors/actor.ts";
import type { Failure } from "../../actors/failure.ts";
import type { LinkRules } from "../../actors/link-rules.ts";
import type { CreditPool } from "../../actors/pool.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Stream, StreamHandler } from "./stream.ts";

/** What moves a link's bytes: an open gRPC call or a socket. It keeps order and message boundaries do not matter. */
export interface Carrier {
  /** Hands one packed batch on; `taken` is called when the carrier has passed all of it to the kernel (or to HTTP/2). */
  write(batch: readonly Uint8Array[], bytes: number, taken: () => void): void;
  /** Largest batch it takes at once, bytes. */
  readonly maxBatchBytes: number;
  /** How many batches may be in its hands at once. */
  readonly maxBatches: number;
  /** Set once by the link. The chunk belongs to the receiver. */
  onData: (chunk: Uint8Array) => void;
  /** Called once, whoever closed it. */
  onClosed: (reason: string) => void;
  /** Flushes what was written, then ends. */
  end(): void;
  /** Ends now. */
  destroy(): void;
}

/** Before the name of a service that an agent allows, among the capabilities of its HELLO. */
export const SERVICE_CAPABILITY = "service:";

/** The first frame both ways. Everything a side must know about the other before it opens a stream. */
export type Hello = {
  readonly cluster: string;
  /** Node name; for an agent "agentk". */
  readonly name: string;
  readonly role: "kas" | "agent";
  /** The name the sender expects of the receiver; "" for any. */
  readonly expects: string;
  readonly versions: readonly [from: number, to: number];
  readonly capabilities: readonly string[];
  /** Credit each new stream starts with in the direction towards the sender of this HELLO, bytes. */
  readonly streamWindow: number;
  /** Agents only; neutral values elsewhere. Generations: design §2.1. */
  readonly instance: string;
  readonly process: string;
  readonly link: number;
  readonly lost: readonly number[];
  readonly version: string;
  /** Peers: this process's NodeId, a nonce, and the proof of the shared secret over both nonces (sent in a second HELLO). */
  readonly node: string;
  readonly nonce: string;
};

export interface LinkEvents {
  /** Both HELLOs were exchanged and accepted. */
  up(peer: Hello): void;
  /** The other side opened a stream. The handler returned is told everything about it; throw `Failed` to refuse (RESET unprocessed). */
  open(payload: Uint8Array, stream: Stream): StreamHandler;
  /** The holder has registered this link (agent side only). */
  ready(): void;
  /** The other side asks us to open new streams elsewhere. OPENs here are still served. */
  drain(): void;
  ctl(payload: Uint8Array): void;
  /** The link is gone and every stream of it was reset first. Called once. */
  closed(failure: Failure): void;
  /** A handler threw: a bug, to be logged. Its stream was reset with `internal`, or the link when it cannot be told whose it was. */
  fault?(error: unknown): void;
}

export type LinkOptions = {
  readonly clock: Clock;
  readonly carrier: Carrier;
  /** The dialler uses odd stream ids, the other side even ones. */
  readonly role: "dialler" | "acceptor";
  readonly hello: Hello;
  /** Looks at the other side's HELLO; a failure closes the link with it. */
  readonly check: (theirs: Hello) => Failure | null;
  /** Peers only: key of the proof both sides must give; several while it is rotated, any in common will do. */
  readonly secret?: Uint8Array | readonly Uint8Array[];
  readonly events: LinkEvents;
  readonly limits?: Partial<LinkLimits>;
  /** The memory its streams share with those of other links: one for a process. */
  readonly pool?: CreditPool;
  /** The agent that all its streams are for, whose share of the pool they borrow from; else each borrows from its group's. */
  readonly owner?: number | string;
  /** Runs something at the end of this turn of the event loop; `setImmediate` unless time is simulated. */
  readonly turn?: (run: () => void) => void;
};

/** What one end grants the other; how much credit a stream starts with is said in its HELLO. */
export type LinkLimits = Omit<LinkRules, "streamWindow">;

export interface Link {
  /** Opens a stream with an encoded OPEN. `group` is whose turn it counts against (agent on a peer link, caller on an agent link). */
  open(payload: Uint8Array, handler: StreamHandler, group: number | string): Stream;
  ctl(payload: Uint8Array): void;
  /** Holder: tells the agent that its registration stands. */
  ready(): void;
  /** Asks the other side to open elsewhere from now on. */
  drain(): void;
  /** CLOSE: takes no new stream, serves those it has, then ends the carrier. */
  close(): void;
  /** Ends now; every stream is reset with `failure`. */
  destroy(failure: Failure): void;
  readonly peer: Hello | null;
  readonly state: "greeting" | "up" | "closing" | "closed";
  readonly streams: number;
  /** Bytes held here: send queues and partly received frames. */
  readonly bufferedBytes: number;
  /** Last measured PING round trip; 0 before the first. */
  readonly roundTrip: Millis;
  /** When the last frame came. */
  readonly heard: Millis;
  /** It ended because the other side said nothing any more, not even when it was asked. */
  readonly silent: boolean;
  /** Frames that were dropped, most of them because their stream was over by the time they came. */
  readonly dropped: number;
}
