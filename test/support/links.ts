/**
 * Peer links as the routing plane sees them, without bytes: one to every member, up or not, heard or not, and CTL frames.
 * A direction that is closed is silent; a link silent for 4 s is lost; a process that is gone refuses.
 */
import type { Millis } from "../../actors/actor.ts";
import type { NodeId } from "../../actors/ids.ts";
import type { CtlLink } from "../../src/cluster/relayed-messenger.ts";
import type { Cluster, TestNode } from "./cluster.ts";

const TICK: Millis = 250;
const LOST_AFTER: Millis = 4_000;
const REDIAL: Millis = 1_000;

type TestLink = CtlLink & { heard: Millis; heardThere: Millis };

export class TestLinks {
  readonly #cluster: Cluster;
  readonly #node: () => TestNode;
  readonly #up = new Map<NodeId, TestLink>();
  #members: ReadonlySet<NodeId> = new Set();
  readonly #redialAt = new Map<NodeId, Millis>();

  constructor(cluster: Cluster, node: () => TestNode) {
    this.#cluster = cluster;
    this.#node = node;
  }

  entries(): Iterable<readonly [NodeId, TestLink]> {
    return this.#up.entries();
  }

  to(node: NodeId): CtlLink | null {
    return this.#up.get(node) ?? null;
  }

  follow(members: Iterable<{ readonly node: NodeId }>): void {
    this.#members = new Set([...members].map(({ node }) => node));
  }

  tick(): void {
    const { clock } = this.#cluster;
    const node = this.#node();
    clock.schedule(clock.now() + TICK, () => this.#cluster.whenAwake(node, () => this.tick()));
    const members = this.#members;
    for (const to of this.#up.keys()) if (!members.has(to)) this.#up.delete(to);
    for (const to of members) if (to !== node.id) this.#look(node, to);
  }

  #look(node: TestNode, to: NodeId): void {
    const { clock, nodes, linkOpen } = this.#cluster;
    const now = clock.now();
    const target = nodes.get(to);
    const there = target?.alive === true && target.id === to;
    const link = this.#up.get(to);
    if (!link) {
      if ((this.#redialAt.get(to) ?? 0) > now) return;
      if (there && linkOpen(node.id, to) && linkOpen(to, node.id)) this.#open(node, to);
      else {
        this.#redialAt.set(to, now + REDIAL);
        node.routing.peerRefused(to);
      }
      return;
    }
    if (there && linkOpen(to, node.id) && !this.#cluster.isStalled(target)) link.heard = now;
    if (there && linkOpen(node.id, to)) link.heardThere = now;
    if (!there || now - Math.min(link.heard, link.heardThere) > LOST_AFTER) this.#up.delete(to);
  }

  #open(node: TestNode, to: NodeId): void {
    const { clock } = this.#cluster;
    const now = clock.now();
    this.#up.set(to, {
      heard: now,
      heardThere: now,
      ctl: (payload) => this.#cluster.carryCtl(this.#node().id, to, payload),
    });
    node.routing.peerHeard(to);
  }
}
