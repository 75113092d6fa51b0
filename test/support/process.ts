/**
 * One process under virtual time: it stops with its end, stands still while it is stalled and then takes what came in a
 * burst, its late timers too. Each piece of work is a turn of its event loop.
 */
import type { Millis } from "../../actors/actor.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { VirtualClock } from "./virtual-clock.ts";

/** What a simulated process must say of itself. */
export interface Life {
  readonly alive: boolean;
  readonly stalledUntil: Millis;
}

export class Process {
  readonly #time: VirtualClock;
  readonly #life: () => Life;

  constructor(time: VirtualClock, life: () => Life) {
    this.#time = time;
    this.#life = life;
  }

  get alive(): boolean {
    return this.#life().alive;
  }

  /** Runs something in it: now, after its stall, or never. */
  run(work: () => void): void {
    const { alive, stalledUntil } = this.#life();
    if (!alive) return;
    if (stalledUntil <= this.#time.now()) work();
    else this.#time.schedule(stalledUntil, () => this.run(work));
  }

  /** At the end of this turn. */
  readonly turn = (work: () => void): void => {
    this.#time.schedule(this.#time.now(), () => this.run(work));
  };

  /** Its time. `count` is told +1 of each wait that begins and -1 of each that ran or was disposed. */
  clock(count: (change: 1 | -1) => void = () => {}): Clock {
    return {
      now: () => this.#time.now(),
      schedule: (at, run) => {
        let waiting = true;
        const over = () => {
          if (waiting) count(-1);
          waiting = false;
        };
        const fire = () =>
          this.run(() => {
            if (!waiting) return;
            over();
            run();
          });
        const wait = this.#time.schedule(at, fire);
        count(1);
        return {
          [Symbol.dispose]: () => {
            wait[Symbol.dispose]();
            over();
          },
        };
      },
    };
  }
}
