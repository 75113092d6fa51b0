/**
 * One link to every other member, dialled by us and used for what we open there; what they open here comes over the links
 * they dialled. Links follow membership: a member that appears is dialled at once, one that goes loses its link. Whoever
 * waits for a link hears within `WAIT_MOST`; while a failed dial is waited out everybody hears of the failure at once.
 */
import type { Millis } from "../../actors/actor.ts";
import { type Failure, failure } from "../../actors/failure.ts";
import type { NodeId } from "../../actors/ids.ts";
import type { Carrier, Hello, Link, LinkEvents, LinkOptions } from "../link/link.ts";
import type { Clock } from "../runtime/clock.ts";
import { failureOf } from "../status.ts";
import type { Member } from "./routing.ts";

/** Connects to `host:port`; calls back exactly once. */
export type Dial = (address: string, done: (result: Carrier | Failure) => void) => Disposable;

export type PeersOptions = {
  readonly self: NodeId;
  readonly clock: Clock;
  readonly random: () => number;
  readonly dial: Dial;
  readonly openLink: (options: LinkOptions) => Link;
  readonly hello: (expects: NodeId) => Hello;
  readonly check: (expects: NodeId) => (theirs: Hello) => Failure | null;
  /** Proof that both belong to the cluster; the first is ours, all are accepted. */
  readonly secrets: readonly Uint8Array[];
  readonly heard: (node: NodeId) => void;
  readonly refused: (node: NodeId) => void;
  /** A stream that the other side opens on a link we dialled, and its CTL frames. */
  readonly events: (node: NodeId) => Pick<LinkEvents, "open" | "ctl"> & { fault(error: unknown): void };
};

export interface Peers extends Disposable {
  follow(members: readonly Member[]): void;
  /**
   * Calls back once: at once when the link is up or the last dial failed, else when the dial under way has ended one way or
   * the other, within 2 s.
   */
  use(node: NodeId, ready: (link: Link | Failure) => void): Disposable;
  links(): Iterable<readonly [NodeId, Link]>;
  /** The link to this node if it is up. */
  link(node: NodeId): Link | null;
}

const REDIAL_FIRST: Millis = 100;
const REDIAL_MAX: Millis = 2_000;
/** A frozen process still takes our socket: do not wait for all of its HELLO. */
const WAIT_MOST: Millis = 2_000;

export function createPeers(options: PeersOptions): Peers {
  const peers = new Map<NodeId, Peer>();
  return {
    follow(members) {
      const wanted = new Map(
        members.filter((m) => m.node !== options.self && m.address).map((m) => [m.node, m.address]),
      );
      for (const [node, peer] of peers) {
        if (wanted.has(node)) continue;
        peers.delete(node);
        peer[Symbol.dispose]();
      }
      for (const [node, address] of wanted) {
        const peer = peers.get(node);
        if (peer) peer.moveTo(address);
        else peers.set(node, new Peer(node, address, options));
      }
    },
    use(node, ready) {
      const peer = peers.get(node);
      if (peer) return peer.use(ready);
      ready(failure("node-gone", `${node} is no member of this cluster any more`));
      return NOTHING;
    },
    *links() {
      for (const [node, peer] of peers) if (peer.link) yield [node, peer.link];
    },
    link: (node) => peers.get(node)?.link ?? null,
    [Symbol.dispose]() {
      for (const peer of peers.values()) peer[Symbol.dispose]();
      peers.clear();
    },
  };
}

const NOTHING: Disposable = { [Symbol.dispose]() {} };

type Waiter = { readonly ready: (link: Link | Failure) => void; readonly patience: Disposable };

/** The link to one member: dialling, up, or waiting to dial again. */
class Peer implements Disposable {
  readonly #node: NodeId;
  #address: string;
  readonly #options: PeersOptions;
  readonly #waiting = new Set<Waiter>();
  #link: Link | null = null;
  /** Out of stream ids, or asked to go elsewhere: they serve what they have to the end. */
  readonly #retired = new Set<Link>();
  /** A dial under way, or the time of the next. */
  #pending: Disposable | null = null;
  /** Why the last dial failed, while the next is waited for. */
  #refusal: Failure | null = null;
  #delay = REDIAL_FIRST;
  #gone = false;

  constructor(node: NodeId, address: string, options: PeersOptions) {
    this.#node = node;
    this.#address = address;
    this.#options = options;
    this.#dial();
  }

  get link(): Link | null {
    return this.#link?.state === "up" ? this.#link : null;
  }

  use(ready: Waiter["ready"]): Disposable {
    const known = this.link ?? this.#refusal;
    if (known) {
      ready(known);
      return NOTHING;
    }
    const { clock } = this.#options;
    const drop = () => {
      patience[Symbol.dispose]();
      return this.#waiting.delete(waiter);
    };
    const patience = clock.schedule(clock.now() + WAIT_MOST, () => {
      if (drop()) ready(this.#unreachable(`it did not greet within ${WAIT_MOST} ms`));
    });
    const waiter = { ready, patience };
    this.#waiting.add(waiter);
    return { [Symbol.dispose]: () => void drop() };
  }

  /** The same process heard at another address; a link that is up stays. */
  moveTo(address: string): void {
    if (address === this.#address) return;
    this.#address = address;
    if (this.#link) return;
    this.#pending?.[Symbol.dispose]();
    this.#pending = null;
    this.#delay = REDIAL_FIRST;
    this.#dial();
  }

  #dial(): void {
    if (this.#gone) return;
    this.#refusal = null;
    let settled = false;
    const done = (result: Carrier | Failure) => {
      settled = true;
      this.#pending = null;
      if ("code" in result) this.#failed(result);
      else this.#greet(result);
    };
    try {
      const dialling = this.#options.dial(this.#address, done);
      if (!settled) this.#pending = dialling;
    } catch (error) {
      this.#failed(failureOf(error)); // an address that is none
    }
  }

  #greet(carrier: Carrier): void {
    const { clock, openLink, hello, check, secrets, heard, events } = this.#options;
    let up = false;
    const link: Link = openLink({
      clock,
      carrier,
      role: "dialler",
      hello: hello(this.#node),
      check: check(this.#node),
      ...(secrets.length > 0 && { secret: secrets }),
      events: {
        ...events(this.#node),
        up: () => {
          up = true;
          this.#delay = REDIAL_FIRST;
          heard(this.#node);
          if (this.link === link) this.#answer(link);
        },
        ready() {},
        drain: () => this.#retire(link),
        closed: (reason) => this.#closed(link, up, reason),
      },
    });
    this.#link = link;
  }

  #retire(link: Link): void {
    if (this.#link !== link) return;
    this.#link = null;
    this.#retired.add(link);
    link.close();
    this.#dial();
  }

  #closed(link: Link, up: boolean, reason: Failure): void {
    if (this.#retired.delete(link) || this.#gone) return;
    this.#link = null;
    if (up) this.#again();
    else this.#failed(reason);
  }

  #failed(reason: Failure): void {
    this.#options.refused(this.#node);
    if (this.#gone) return;
    this.#refusal = this.#unreachable(reason.reason);
    this.#again();
    this.#answer(this.#refusal);
  }

  #unreachable(why: string): Failure {
    return failure("node-gone", `no link to ${this.#node} at ${this.#address}: ${why}`);
  }

  #again(): void {
    if (this.#gone || this.#pending) return;
    const { clock, random } = this.#options;
    const timer = clock.schedule(clock.now() + this.#delay * (0.5 + random() / 2), () => {
      this.#pending = null;
      this.#dial();
    });
    this.#pending = timer;
    this.#delay = Math.min(REDIAL_MAX, this.#delay * 2);
  }

  #answer(result: Link | Failure): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const { ready, patience } of waiting) {
      patience[Symbol.dispose]();
      ready(result);
    }
  }

  [Symbol.dispose](): void {
    this.#gone = true;
    this.#pending?.[Symbol.dispose]();
    this.#pending = null;
    const reason = failure("node-gone", `${this.#node} left the cluster`);
    for (const link of [...this.#retired]) link.destroy(reason);
    this.#link?.destroy(reason);
    this.#link = null;
    this.#answer(reason);
  }
}
