/**
 * Many short waits on one timer: a Clock whose times are rounded up to a tick, with scheduling and disposal in O(1).
 * Nothing runs early, nothing more than a tick late; when empty it holds at most one timer of the clock below.
 */
import type { Millis } from "../../actors/actor.ts";
import type { Clock } from "./clock.ts";

type Slot = { readonly tick: number; readonly waits: Wait[] };

class Wait implements Disposable {
  readonly run: () => void;
  slot: Slot | null;
  index: number;
  readonly #gone: (slot: Slot) => void;

  constructor(run: () => void, slot: Slot, gone: (slot: Slot) => void) {
    this.run = run;
    this.slot = slot;
    this.index = slot.waits.push(this) - 1;
    this.#gone = gone;
  }

  [Symbol.dispose](): void {
    const { slot } = this;
    if (!slot) return;
    this.slot = null;
    const last = slot.waits.pop();
    if (last && last !== this) {
      slot.waits[this.index] = last;
      last.index = this.index;
    }
    if (slot.waits.length === 0) this.#gone(slot);
  }
}

export class Wheel implements Clock, Disposable {
  readonly #clock: Clock;
  readonly #tick: Millis;
  readonly #slots = new Map<number, Slot>();
  #armed: { readonly tick: number; readonly timer: Disposable } | null = null;

  constructor(clock: Clock, tick: Millis = 10) {
    this.#clock = clock;
    this.#tick = tick;
  }

  now(): Millis {
    return this.#clock.now();
  }

  schedule(at: Millis, run: () => void): Disposable {
    const tick = Math.ceil(at / this.#tick);
    let slot = this.#slots.get(tick);
    if (!slot) {
      slot = { tick, waits: [] };
      this.#slots.set(tick, slot);
    }
    const wait = new Wait(run, slot, this.#gone);
    if (!this.#armed || tick < this.#armed.tick) this.#arm(tick);
    return wait;
  }

  get size(): number {
    let size = 0;
    for (const slot of this.#slots.values()) size += slot.waits.length;
    return size;
  }

  [Symbol.dispose](): void {
    this.#armed?.timer[Symbol.dispose]();
    this.#armed = null;
    this.#slots.clear();
  }

  readonly #gone = (slot: Slot): void => {
    this.#slots.delete(slot.tick);
  };

  #arm(tick: number): void {
    this.#armed?.timer[Symbol.dispose]();
    this.#armed = { tick, timer: this.#clock.schedule(tick * this.#tick, () => this.#turn()) };
  }

  #turn(): void {
    this.#armed = null;
    const current = Math.floor(this.#clock.now() / this.#tick);
    const due = [...this.#slots.values()].filter((slot) => slot.tick <= current).sort((a, b) => a.tick - b.tick);
    for (const slot of due) this.#fire(slot);
    let next = Number.POSITIVE_INFINITY;
    for (const tick of this.#slots.keys()) next = Math.min(next, tick);
    if (next !== Number.POSITIVE_INFINITY) this.#arm(next);
  }

  #fire(slot: Slot): void {
    this.#slots.delete(slot.tick);
    for (let wait = slot.waits.pop(); wait; wait = slot.waits.pop()) {
      wait.slot = null;
      wait.run();
    }
  }
}
