/**
 * Every link of a simulated world, opened by the real multiplexer in the virtual time of its process, with what it must not
 * leave behind: streams, bytes, timers, lent credit. A link that calls the other side a liar is a bug at one of the two.
 */

import type { Millis } from "../../actors/actor.ts";
import { MAX_STREAM_ID } from "../../actors/frame.ts";
import { type CreditPool, creditPool } from "../../actors/pool.ts";
import type { Link, LinkOptions } from "../../src/link/link.ts";
import { openLink } from "../../src/link/multiplexer.ts";
import type { Process } from "../support/process.ts";
import { WireEnd } from "../support/wire.ts";
import type { World } from "./world.ts";

type Kept = { readonly name: string; readonly owner: LinkOwner; readonly link: Link; timers: number; closedAt: Millis };

/** Whatever was cut, silent or frozen in the chaos is known to be by then. */
const CALM_AFTER: Millis = 15_000;
/** A closed link gives its carrier a second for the last bytes. */
const FLUSHED_WITHIN: Millis = 1_100;
/** Less than fast streams together would like, so that it runs out. */
const POOL = { growth: 512 * 1024, perAgent: 256 * 1024 };

/** One process and its links. */
export class LinkOwner {
  readonly name: string;
  readonly process: Process;
  readonly pool: CreditPool = creditPool(POOL);
  readonly #world: World;

  constructor(world: World, name: string, process: Process) {
    this.#world = world;
    this.name = name;
    this.process = process;
    world.links.owners.push(this);
  }

  readonly open = (options: LinkOptions): Link => {
    const world = this.#world;
    const { links } = world;
    const kept = {
      name: `${this.name}/${links.all.length}`,
      owner: this,
      link: null as Link | null,
      timers: 0,
      closedAt: 0,
    };
    let up = false;
    const count = (change: 1 | -1) => {
      kept.timers += change;
      if (kept.timers > 1) world.violation(`I19 the link ${kept.name} has ${kept.timers} timers`);
    };
    kept.link = openLink({
      ...options,
      ...(world.chance(0.1) && {
        limits: { ...options.limits, firstStream: nearTheLast(options.role, world.roll(60)) },
      }),
      clock: this.process.clock(count),
      turn: this.process.turn,
      pool: this.pool,
      events: {
        ...options.events,
        up: (peer) => {
          up = true;
          world.trace(`link ${kept.name} up`);
          options.events.up(peer);
        },
        closed: (reason) => {
          kept.closedAt = world.now();
          world.trace(`link ${kept.name} closed ${reason.code}: ${reason.reason}`);
          if (reason.code === "protocol" || reason.code === "internal") {
            world.violation(`I12 the link ${kept.name} was closed: ${reason.reason}`);
          }
          const { carrier } = options;
          const alone = carrier instanceof WireEnd && carrier.wire.vanished;
          if (up && reason.code === "node-gone" && !alone && world.now() > world.chaos + CALM_AFTER) {
            world.violation(`I20 the link ${kept.name} was lost in a calm: ${reason.reason}`);
          }
          options.events.closed(reason);
        },
        fault: (error) => world.violation(`a handler threw at ${kept.name}: ${stackOf(error)}`),
      },
    });
    links.all.push(kept as Kept);
    return kept.link;
  };
}

/** So high that the ids run out after `more` streams, and the link must be replaced. */
const nearTheLast = (role: LinkOptions["role"], more: number): number =>
  (role === "dialler" ? -1 : 0) + MAX_STREAM_ID - 1 - 2 ** 17 - 2 * more + 2;

export const stackOf = (error: unknown): string =>
  error instanceof Error ? (error.stack ?? error.message) : String(error);

export class Links {
  readonly all: Kept[] = [];
  readonly owners: LinkOwner[] = [];

  /** Bytes held by links of processes that live: a frame of which a part came counts. */
  get bytes(): number {
    return this.all.reduce((sum, { owner, link }) => sum + (owner.process.alive ? link.bufferedBytes : 0), 0);
  }

  /** I19, once everything is quiet: what goes on is the links themselves. */
  check(world: World): void {
    for (const { name, owner, link, timers, closedAt } of this.all) {
      if (!owner.process.alive) continue;
      const { streams, bufferedBytes, state } = link;
      if (streams + bufferedBytes > 0)
        world.violation(`I19 ${name} (${state}) keeps ${streams} streams, ${bufferedBytes} bytes`);
      if (state === "closed" && timers > 0 && world.now() > closedAt + FLUSHED_WITHIN)
        world.violation(`I19 ${name} is closed and keeps ${timers} timers`);
      if (state === "closing") world.violation(`I19 ${name} has nothing left and does not end`);
    }
    for (const { name, process, pool } of this.owners) {
      const { lent, held, shares } = pool;
      if (process.alive && lent + held + shares.size !== 0) {
        world.violation(
          `I19 ${name} never got back what it lent: ${JSON.stringify({ lent, held, shares: shares.size })}`,
        );
      }
    }
  }
}
