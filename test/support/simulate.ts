/** One actor in a real cell under virtual time: tell it, let time pass, read what it asked for. */
import type { Actor, Millis } from "../../actors/actor.ts";
import { Cell } from "../../src/runtime/cell.ts";
import { VirtualClock } from "./virtual-clock.ts";

export class Simulated<State, Message, Effect extends { readonly type: string }> {
  /** Everything it asked for so far, timers excepted. */
  readonly effects: Effect[] = [];
  readonly #clock: VirtualClock;
  readonly #cell: Cell<State, Message, Effect>;

  constructor(actor: Actor<State, Message, Effect>, start: Millis = 0) {
    this.#clock = new VirtualClock(start);
    this.#cell = new Cell(actor, {
      name: "simulated",
      clock: this.#clock,
      perform: (effect) => this.effects.push(effect),
      crashed: (error) => {
        throw error;
      },
    });
  }

  tell(message: Message): this {
    this.#cell.tell(message);
    return this;
  }

  advance(by: Millis): this {
    this.#clock.advance(by);
    return this;
  }

  /** What it asked for since the last time this was read. */
  take(): Effect[] {
    return this.effects.splice(0);
  }

  now(): Millis {
    return this.#clock.now();
  }

  get state(): State {
    return this.#cell.state;
  }

  get pending(): number {
    return this.#clock.pending;
  }
}

export const simulate = <State, Message, Effect extends { readonly type: string }>(
  actor: Actor<State, Message, Effect>,
  start: Millis = 0,
): Simulated<State, Message, Effect> => new Simulated(actor, start);
