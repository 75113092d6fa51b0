/** The home index of this node as a cell, and what it says to others. Own connections are part of it, home or not. */
import type { Millis } from "../../actors/actor.ts";
import type { ChannelMessage, Entry } from "../../actors/channel.ts";
import { createHome } from "../../actors/home.ts";
import {
  ask,
  type Home,
  type HomeAnswer,
  type HomeEffect,
  type HomeMessage,
  type HomeRoute,
  type HomeSettings,
  routesOf,
} from "../../actors/home-index.ts";
import type { AgentId, ConnectionId, NodeId } from "../../actors/ids.ts";
import type { Cell } from "../runtime/cell.ts";
import type { Clock } from "../runtime/clock.ts";
import type { System } from "../runtime/system.ts";
import type { RoutingMessage } from "./wire.ts";

export type HomeIndexOptions = {
  readonly system: System;
  readonly clock: Clock;
  readonly wallClock: () => number;
  readonly settings: HomeSettings;
  /** False while our bus is away: others may have joined and know more. */
  readonly current: () => boolean;
  readonly self: () => NodeId;
  readonly entries: () => Iterable<Entry>;
  readonly send: (to: NodeId, message: RoutingMessage) => void;
  readonly found: (agent: AgentId, routes: readonly HomeRoute[]) => void;
  readonly superseded: (connection: ConnectionId) => void;
};

export class HomeIndex {
  readonly #options: HomeIndexOptions;
  readonly #cell: Cell<Home, HomeMessage, HomeEffect>;
  #members: ReadonlySet<NodeId> = new Set();

  constructor(options: HomeIndexOptions) {
    this.#options = options;
    this.#cell = options.system.spawn("home", createHome(options.self(), options.settings), {
      perform: (effect) => this.#perform(effect),
      respawned: () => this.#refill(),
    });
  }

  get entries(): number {
    let entries = 0;
    for (const channel of this.#cell.state.channels.values()) entries += channel.entries.size;
    return entries;
  }

  get watches(): number {
    return this.#cell.state.watches.size;
  }

  follow(members: ReadonlySet<NodeId>): void {
    this.#members = members;
    const { self, wallClock } = this.#options;
    this.#cell.tell({ type: "members", self: self(), members, wall: wallClock() });
  }

  put(entry: Entry): void {
    this.#cell.tell({ type: "put", entry });
  }

  remove(connection: ConnectionId): void {
    this.#cell.tell({ type: "remove", connection, wall: this.#options.wallClock() });
  }

  receive(from: NodeId, message: ChannelMessage): void {
    this.#cell.tell({ type: "channel", from, message, wall: this.#options.wallClock() });
  }

  /** Messages may have been missed. */
  doubt(): void {
    this.#cell.tell({ type: "doubt" });
  }

  /** An agent without a route is watched for whoever asks. */
  lookUp(by: NodeId, agent: AgentId, watch: Millis): HomeAnswer {
    const { settings, clock, current } = this.#options;
    const known = ask(this.#cell.state, agent, settings, clock.now());
    const answer = current() ? known : { ...known, mature: false };
    if (answer.routes.length === 0 && watch > 0) this.#cell.tell({ type: "watch", agent, by, within: watch });
    return answer;
  }

  /** What this node itself holds of the agent. */
  whoHas(agent: AgentId): HomeAnswer {
    const self = this.#options.self();
    const routes = routesOf(this.#cell.state, agent).filter(({ node }) => node === self);
    return { routes, missing: [], mature: false, seen: null };
  }

  #perform(effect: HomeEffect): void {
    const { self, send, found, superseded } = this.#options;
    switch (effect.type) {
      case "ack":
        send(effect.to, { type: "regack", position: effect.position });
        return;
      case "need-snap":
        send(effect.to, { type: "needsnap" });
        return;
      case "superseded":
        if (effect.holder === self()) superseded(effect.connection);
        else send(effect.holder, { type: "superseded", connection: effect.connection });
        return;
      case "found":
        if (effect.to === self()) found(effect.agent, effect.routes);
        else send(effect.to, { type: "found", agent: effect.agent, routes: effect.routes });
        return;
    }
  }

  /** We go under another name now: what we hold is told under it. */
  renamed(): void {
    this.#refill();
  }

  /** The actor threw: what we hold ourselves we know, the rest the others tell again. */
  #refill(): void {
    this.follow(this.#members);
    for (const entry of this.#options.entries()) this.put(entry);
  }
}
