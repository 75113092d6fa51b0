/**
 * One link to every other member, dialled by us and used for what we open there; what they open here comes over the links
 * they dialled. Links follow membership: a member that appears is dialled at once, one that goes loses its link.
 */
import type { Millis } from "../../actors/actor.ts";
import { type Failure, failure } from "../../actors/failure.ts";
import type { NodeId } from "../../actors/ids.ts";
import type { Carrier, Hello, Link, LinkEvents, LinkOptions } from "../link/link.ts";
import type { Clock } from "../runtime/clock.ts";
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
  /** Calls back once, at once when the link is up, else when the dial under way has ended one way or the other. */
  use(node: NodeId, ready: (link: Link | Failure) => void): Disposable;
  links(): Iterable<readonly [NodeId, Link]>;
}

const REDIAL_FIRST: Millis = 100;
const REDIAL_MAX: Millis = 2_000;

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
        if (!peers.has(node)) peers.set(node, new Peer(node, address, options));
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
    [Symbol.dispose]() {
      for (const peer of peers.values()) peer[Symbol.dispose]();
      peers.clear();
    },
  };
}

const NOTHING: Disposable = { [Symbol.dispose]() {} };

type Waiter = (link: Link | Failure) => void;

/** The link to one member: dialling, up, or waiting to dial again. */
class Peer implements Disposable {
  readonly #node: NodeId;
  readonly #address: string;
  readonly #options: PeersOptions;
  readonly #waiting = new Set<Waiter>();
  #link: Link | null = null;
  #pending: Disposable | null = null;
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

  use(ready: Waiter): Disposable {
    const link = this.link;
    if (link) {
      ready(link);
      return NOTHING;
    }
    this.#waiting.add(ready);
    return { [Symbol.dispose]: () => void this.#waiting.delete(ready) };
  }

  #dial(): void {
    if (this.#gone) return;
    this.#pending = this.#options.dial(this.#address, (result) => {
      this.#pending = null;
      if ("code" in result) this.#failed(result);
      else this.#greet(result);
    });
  }

  #greet(carrier: Carrier): void {
    const { clock, openLink, hello, check, secrets, heard, events } = this.#options;
    let up = false;
    this.#link = openLink({
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
          const link = this.link;
          if (link) this.#answer(link);
        },
        ready() {},
        drain() {},
        closed: (reason) => {
          this.#link = null;
          if (up) this.#again();
          else this.#failed(reason);
        },
      },
    });
  }

  #failed(reason: Failure): void {
    this.#options.refused(this.#node);
    this.#answer(failure("node-gone", `no link to ${this.#node} at ${this.#address}: ${reason.reason}`));
    this.#again();
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
    for (const ready of waiting) ready(result);
  }

  [Symbol.dispose](): void {
    this.#gone = true;
    this.#pending?.[Symbol.dispose]();
    this.#pending = null;
    const reason = failure("node-gone", `${this.#node} left the cluster`);
    this.#link?.destroy(reason);
    this.#answer(reason);
  }
}
