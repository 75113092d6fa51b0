/**
 * Opens the links of this node, with the intervals of its configuration, and counts the frames they drop, those of links
 * that are gone included.
 */
import type { Millis } from "../../actors/actor.ts";
import { type CreditPool, creditPool, type PoolLimits } from "../../actors/pool.ts";
import type { Link, LinkOptions } from "../link/link.ts";
import { openLink } from "../link/multiplexer.ts";

export type LinkTimings = {
  readonly hello_within: Millis;
  readonly ping_after: Millis;
  readonly idle_ping_after: Millis;
  readonly pong_within: Millis;
};

/** What they may keep; the defaults of the pool where it says nothing. */
export type LinkBounds = {
  readonly streams_per_agent: number;
  readonly streams_per_node: number;
  readonly growth_mib: number;
  readonly growth_per_agent_mib: number;
  readonly held_mib: number;
};

const MIB = 1024 * 1024;

export type LinkPlace = "peer" | "agent";

export class Links {
  /** The memory that the streams of all of them share. */
  readonly pool: CreditPool;
  readonly #limits: { readonly [place in LinkPlace]: LinkOptions["limits"] };
  readonly #open = { peer: new Set<Link>(), agent: new Set<Link>() };
  /** Of links that are gone. */
  readonly #dropped = { peer: 0, agent: 0 };

  constructor({ hello_within, ping_after, idle_ping_after, pong_within }: LinkTimings, bounds?: LinkBounds) {
    const timings = {
      helloWithin: hello_within,
      pingAfter: ping_after,
      idlePingAfter: idle_ping_after,
      pongWithin: pong_within,
    };
    this.pool = creditPool(bounds && poolLimits(bounds));
    this.#limits = {
      peer: { ...timings, ...(bounds && { maxStreams: bounds.streams_per_node }) },
      // Nodes talk among themselves by CTL; an agent has no use for it.
      agent: { ...timings, ...(bounds && { maxStreams: bounds.streams_per_agent }), maxCtlBytes: 0 },
    };
  }

  opener(place: LinkPlace): (options: LinkOptions) => Link {
    const open = this.#open[place];
    return ({ events, limits, ...options }) => {
      const link = openLink({
        ...options,
        pool: this.pool,
        limits: { ...this.#limits[place], ...limits },
        events: {
          up: (peer) => events.up(peer),
          open: (payload, stream) => events.open(payload, stream),
          ready: () => events.ready(),
          drain: () => events.drain(),
          ctl: (payload) => events.ctl(payload),
          fault: (error) => events.fault?.(error),
          closed: (why) => {
            open.delete(link);
            this.#dropped[place] += link.dropped;
            events.closed(why);
          },
        },
      });
      open.add(link);
      return link;
    };
  }

  /** Frames dropped since the start. */
  dropped(place: LinkPlace): number {
    let dropped = this.#dropped[place];
    for (const link of this.#open[place]) dropped += link.dropped;
    return dropped;
  }
}

const poolLimits = ({ growth_mib, growth_per_agent_mib, held_mib }: LinkBounds): PoolLimits => ({
  growth: growth_mib * MIB,
  perAgent: growth_per_agent_mib * MIB,
  hard: held_mib * MIB,
});
