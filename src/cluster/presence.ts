/**
 * This node among the others: its membership actor, and what follows from its view: the ring and who is home for a slot.
 * A name stands for its newest member. Nothing is sent before `join` or after `leave`.
 */
import type { Millis } from "../../actors/actor.ts";
import { type Failure, failure } from "../../actors/failure.ts";
import { incarnationOf, type NodeId, type NodeName, nameOf } from "../../actors/ids.ts";
import { createMembership } from "../../actors/membership.ts";
import { type buildRing, homeAt, type Ring, type SlotSet, slotsByName } from "../../actors/ring.ts";
import { othersAreOnBus } from "../../actors/suspicion.ts";
import type {
  Heartbeat,
  Introduced,
  Membership,
  MembershipEffect,
  MembershipMessage,
  Peer,
  View,
} from "../../actors/view.ts";
import { Failed } from "../failed.ts";
import type { Cell } from "../runtime/cell.ts";
import type { System } from "../runtime/system.ts";
import type { Member } from "./routing.ts";
import type { RoutingSettings } from "./routing-settings.ts";

export type PresenceOptions = {
  readonly system: System;
  readonly name: NodeName;
  readonly incarnation: number;
  readonly address: string;
  readonly alone: boolean;
  readonly seed: number;
  readonly settings: RoutingSettings;
  readonly buildRing: typeof buildRing;
  readonly broadcast: (heartbeat: Heartbeat) => void;
  readonly introduce: (to: NodeId, peers: readonly Introduced[]) => void;
  readonly outdated: (to: NodeId, incarnation: number) => void;
  readonly probe: (node: NodeId) => void;
  /** Messages may have been lost while our loop stood still. */
  readonly stalled: () => void;
  readonly viewed: () => void;
  readonly deposed: (reason: Failure) => void;
  readonly renamed: ((self: NodeId) => void) | undefined;
};

export class Presence {
  readonly #options: PresenceOptions;
  readonly #cell: Cell<Membership, MembershipMessage, MembershipEffect>;
  readonly #states = new Map<NodeId, "alive" | "suspect">();
  readonly #nodes = new Map<NodeName, NodeId>();
  readonly #joined = Promise.withResolvers<void>();
  #ring: Ring;
  #joining = false;

  constructor(options: PresenceOptions) {
    this.#options = options;
    const { system, settings, name, incarnation, address, seed } = options;
    this.#ring = options.buildRing([], settings.homes);
    // A rejection is the joiner's business; nobody may have asked yet.
    this.#joined.promise.catch(() => {});
    this.#cell = system.spawn("membership", createMembership(settings.membership, name, incarnation, address, seed), {
      perform: (effect) => this.#perform(effect),
      respawned: () => this.#cell.tell({ type: options.alone ? "alone" : "join" }),
    });
  }

  get self(): NodeId {
    return this.#cell.state.self;
  }

  get phase(): "joining" | "up" | "draining" | "left" {
    const { phase } = this.#cell.state;
    return phase === "new" ? "joining" : phase;
  }

  get view(): View {
    return this.#cell.state.view;
  }

  get connected(): boolean {
    return this.#cell.state.connected;
  }

  /** While our bus is away: does a member say over its link that it has one? */
  othersAreOnBus(now: Millis): boolean {
    return othersAreOnBus(this.#cell.state, this.#options.settings.membership, now);
  }

  /** How long our bus has been away; 0 while it is there. */
  busAwayFor(now: Millis): Millis {
    const { connected, connectionAt } = this.#cell.state;
    return connected ? 0 : now - connectionAt;
  }

  tell(message: MembershipMessage): void {
    this.#cell.tell(message);
  }

  join(connected: boolean): Promise<void> {
    if (this.#joining) return this.#joined.promise;
    this.#joining = true;
    this.#cell.tell({ type: "connection", connected });
    this.#cell.tell({ type: this.#options.alone ? "alone" : "join" });
    return this.#joined.promise;
  }

  leave(): void {
    this.#cell.tell({ type: "leave" });
    this.#joined.reject(new Failed(failure("draining", `Node ${this.#options.name} was stopped before it had joined`)));
  }

  members(): Member[] {
    const { self, phase, address, connections, peers } = this.#cell.state;
    const state = phase === "up" ? "alive" : phase === "draining" ? "draining" : "joining";
    const members: Member[] = [{ node: self, state, address, connections }];
    for (const peer of peers.values()) if (peer.state !== "lost") members.push(memberOf(peer));
    return members;
  }

  /** No members while the view is frozen, but to be dialled on. */
  lost(): Member[] {
    return [...this.#cell.state.peers.values()].filter((peer) => peer.state === "lost").map(memberOf);
  }

  /** Members that may hold connections, this one excepted. */
  others(): readonly NodeId[] {
    return [...this.#states.keys()];
  }

  stateOf(node: NodeId): "alive" | "suspect" | "gone" {
    return this.#states.get(node) ?? "gone";
  }

  home(slot: number, index: number): NodeId | null {
    const name = homeAt(this.#ring, slot, index);
    return name === undefined ? null : (this.#nodes.get(name) ?? null);
  }

  /** The other homes and their slots. */
  homes(): Map<NodeId, SlotSet> {
    const homes = new Map<NodeId, SlotSet>();
    for (const [name, slots] of slotsByName(this.#ring)) {
      const node = this.#nodes.get(name);
      if (node && node !== this.self) homes.set(node, slots);
    }
    return homes;
  }

  #perform(effect: MembershipEffect): void {
    const { broadcast, introduce, outdated, probe, deposed, stalled } = this.#options;
    switch (effect.type) {
      case "broadcast":
        broadcast(effect.heartbeat);
        return;
      case "viewed":
        this.#follow(effect.view);
        return;
      case "joined":
        this.#up(effect.self);
        return;
      case "refused":
        this.#joined.reject(new Failed(effect.failure));
        return;
      case "deposed":
        deposed(
          failure("node-gone", `A newer process (${effect.by}) runs under the name of this node; this one stops`),
        );
        return;
      case "introduce":
        introduce(effect.to, effect.peers);
        return;
      case "outdated":
        outdated(effect.to, effect.incarnation);
        return;
      case "probe":
        probe(effect.node);
        return;
      case "stalled":
        stalled();
        return;
    }
  }

  #up(self: NodeId): void {
    const { name, incarnation, renamed } = this.#options;
    if (incarnationOf(self) === incarnation || renamed) {
      if (incarnationOf(self) !== incarnation) renamed?.(self);
      this.#joined.resolve();
      return;
    }
    const reason = `This node cannot join: the cluster remembers ${name} with a later start (${incarnationOf(self) - 1}). Set this machine's clock`;
    this.#joined.reject(new Failed(failure("invalid", reason)));
  }

  #follow(view: View): void {
    this.#states.clear();
    this.#nodes.clear();
    for (const { node, state } of view.peers) {
      if (state !== "joining") this.#states.set(node, state === "suspect" || state === "mute" ? "suspect" : "alive");
    }
    for (const node of view.homes) {
      const known = this.#nodes.get(nameOf(node));
      if (!known || incarnationOf(known) < incarnationOf(node)) this.#nodes.set(nameOf(node), node);
    }
    const names = [...this.#nodes.keys()].sort();
    const same = names.length === this.#ring.names.length && names.every((name, i) => name === this.#ring.names[i]);
    if (!same) this.#ring = this.#options.buildRing(names, this.#options.settings.homes);
    this.#options.viewed();
  }
}

function memberOf({ node, state, address, connections }: Peer): Member {
  return { node, state: state === "mute" || state === "lost" ? "suspect" : state, address, connections };
}
