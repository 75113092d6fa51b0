/** Asks agents held here to connect anew. Each connection is asked once: its agent goes on trying until it has another. */

import type { Millis } from "../../actors/actor.ts";
import { aged, leaving, type Movable, willing } from "../../actors/moves.ts";
import type { AgentLink, Connection, Holder } from "../cluster/holder.ts";
import type { Routing } from "../cluster/routing.ts";

export type AgentMovesOptions = {
  readonly holder: Pick<Holder, "connections" | "streams">;
  readonly routing: Pick<Routing, "drained">;
  readonly wallClock: () => number;
  /** Spreads the ages at which connections of different nodes are too old. */
  readonly seed: number;
};

type Candidate = Movable & { readonly link: AgentLink };

export class AgentMoves {
  readonly #options: AgentMovesOptions;
  readonly #asked = new WeakSet<AgentLink>();

  constructor(options: AgentMovesOptions) {
    this.#options = options;
  }

  /** Connections that were not asked yet. */
  get waiting(): number {
    let waiting = 0;
    for (const { link } of this.#options.holder.connections()) if (!this.#asked.has(link)) waiting++;
    return waiting;
  }

  /** This node leaves: all must go, idle ones first. */
  leave(count: number): void {
    this.#ask(leaving(this.#candidates(), count));
  }

  /** Some should go; returns how many could be asked. */
  spread(count: number): number {
    return this.#ask(willing(this.#candidates(), count));
  }

  /** Those older than `limit`, each at its own time around it; at most `most`. */
  renew(limit: Millis, most: number): number {
    if (limit === 0) return 0;
    return this.#ask(leaving(aged(this.#candidates(limit / 2), limit, this.#options.seed), most));
  }

  #ask(chosen: readonly Candidate[]): number {
    for (const { id, link } of chosen) {
      this.#asked.add(link);
      this.#options.routing.drained(id);
      link.drain();
    }
    return chosen.length;
  }

  /** Those not asked yet that have been connected for so long. */
  #candidates(since: Millis = 0): Candidate[] {
    const { holder, wallClock } = this.#options;
    const now = wallClock();
    const waiting = [...holder.connections()].filter(
      ({ link, connectedAt }) => now - connectedAt >= since && !this.#asked.has(link),
    );
    if (waiting.length === 0) return [];
    const lasting = new Map<number, number>();
    const interactive = new Map<number, number>();
    for (const stream of holder.streams()) {
      if (stream.class === "unary") continue;
      const counts = stream.class === "interactive" ? interactive : lasting;
      counts.set(stream.connection, (counts.get(stream.connection) ?? 0) + 1);
    }
    const candidate = ({ id, link, connectedAt }: Connection): Candidate => ({
      id,
      link,
      streams: link.streams,
      lasting: lasting.get(id) ?? 0,
      interactive: interactive.get(id) ?? 0,
      age: now - connectedAt,
    });
    return waiting.map(candidate);
  }
}
