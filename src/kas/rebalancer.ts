/**
 * Keeps this node's share of the agents even: looks once a second at what the others hold, and asks some agents to connect
 * anew when this node has too many or their connections are old. It asks nobody while this node joins or drains, or cannot
 * know what the others hold.
 */
import type { Millis } from "../../actors/actor.ts";
import {
  createRebalance,
  excess,
  type Rebalance,
  type RebalanceEffect,
  type RebalanceMessage,
  type Share,
} from "../../actors/rebalance.ts";
import type { Routing } from "../cluster/routing.ts";
import type { Cell } from "../runtime/cell.ts";
import type { Clock } from "../runtime/clock.ts";
import { System } from "../runtime/system.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { AgentMoves } from "./agent-moves.ts";

export type RebalancerOptions = {
  readonly clock: Clock;
  readonly log: Pick<Logger, "info" | "error">;
  readonly routing: Pick<Routing, "self" | "phase" | "bus" | "members">;
  readonly moves: Pick<AgentMoves, "spread" | "renew">;
  readonly perSecond: number;
  readonly after: Millis;
  readonly maxConnectionAge: Millis;
};

/** What an operator's `now` set off on a node. */
export type Rebalancing = {
  readonly node: string;
  readonly connections: number;
  readonly mean: number;
  /** How many agents it will ask, if their number stays as it is. */
  readonly tooMany: number;
};

const LOOK_EVERY: Millis = 1_000;

export class Rebalancer implements Disposable {
  readonly #options: RebalancerOptions;
  readonly #system: System;
  readonly #cell: Cell<Rebalance, RebalanceMessage, RebalanceEffect>;
  #timer: Disposable;

  constructor(options: RebalancerOptions) {
    this.#options = options;
    const { clock, log } = options;
    this.#system = new System({ clock, log: (text, err) => log.error(text, { err }) });
    this.#cell = this.#system.spawn("rebalance", createRebalance(options), {
      perform: ({ count }) => {
        const asked = options.moves.spread(count);
        if (asked > 0) log.info("agents asked to connect anew: this node has more than its share", { asked });
      },
    });
    this.#timer = this.#lookLater();
  }

  now(): Rebalancing {
    const { self, phase } = this.#options.routing;
    const { over, mean } = excess(this.#own, this.#alive());
    if (phase === "up") this.#cell.tell({ type: "now" });
    const tooMany = phase === "up" ? Math.max(0, Math.ceil(over)) : 0;
    return { node: self, connections: this.#own, mean: Math.round(mean * 10) / 10, tooMany };
  }

  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]();
    this.#system[Symbol.dispose]();
  }

  get #own(): number {
    const { routing } = this.#options;
    return routing.members().find(({ node }) => node === routing.self)?.connections ?? 0;
  }

  /** Null: nobody shall be asked now. */
  #others(): readonly Share[] | null {
    const { routing } = this.#options;
    if (routing.phase !== "up" || routing.bus.awayFor > 0) return null;
    return routing.members().some(({ state }) => state === "suspect") ? null : this.#alive();
  }

  #alive(): readonly Share[] {
    const { routing } = this.#options;
    return routing.members().filter(({ node, state }) => node !== routing.self && state === "alive");
  }

  #look(): void {
    const { routing, moves, maxConnectionAge, perSecond, log } = this.#options;
    const others = this.#others();
    this.#cell.tell({ type: "look", own: this.#own, others });
    if (routing.phase !== "up") return;
    const most = Math.max(1, Math.floor(perSecond / ((others?.length ?? 0) + 1)));
    const asked = moves.renew(maxConnectionAge, most);
    if (asked > 0) log.info("agents asked to connect anew: their connections are old", { asked });
  }

  #lookLater(): Disposable {
    const { clock } = this.#options;
    return clock.schedule(clock.now() + LOOK_EVERY, () => {
      this.#timer = this.#lookLater();
      this.#look();
    });
  }
}
