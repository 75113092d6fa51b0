/**
 * The cells of one node by their addresses. A cell that throws is logged and starts from nothing; whoever spawned it may
 * feed it again. Disposing the system ends every cell and every timer of it.
 */
import type { Actor } from "../../actors/actor.ts";
import { Cell } from "./cell.ts";
import type { Clock } from "./clock.ts";

export type SystemOptions = {
  readonly clock: Clock;
  readonly log: (text: string, error: unknown) => void;
};

export type Spawn<Effect> = {
  readonly perform: (effect: Effect) => void;
  /** Called after a crash, with the cell empty again. */
  readonly respawned?: () => void;
  /** Another clock than the system's: the wheel, for cells that come and go by the thousand. */
  readonly clock?: Clock;
};

export class System implements Disposable {
  readonly #options: SystemOptions;
  readonly #cells = new Map<string, Disposable>();

  constructor(options: SystemOptions) {
    this.#options = options;
  }

  /** A cell of the same address ends first. */
  spawn<State, Message, Effect extends { readonly type: string }>(
    address: string,
    actor: Actor<State, Message, Effect>,
    spawn: Spawn<Effect>,
  ): Cell<State, Message, Effect> {
    const cell = this.cell(address, actor, spawn);
    this.stop(address);
    this.#cells.set(address, cell);
    return cell;
  }

  /** A cell without an address: whoever asks for it ends it. For those that come and go by the thousand. */
  cell<State, Message, Effect extends { readonly type: string }>(
    name: string,
    actor: Actor<State, Message, Effect>,
    { perform, respawned, clock }: Spawn<Effect>,
  ): Cell<State, Message, Effect> {
    return new Cell(actor, {
      name,
      clock: clock ?? this.#options.clock,
      perform,
      crashed: (error) => {
        this.#options.log(`${name} threw and starts from nothing`, error);
        respawned?.();
      },
    });
  }

  stop(address: string): void {
    this.#cells.get(address)?.[Symbol.dispose]();
    this.#cells.delete(address);
  }

  get size(): number {
    return this.#cells.size;
  }

  [Symbol.dispose](): void {
    for (const cell of this.#cells.values()) cell[Symbol.dispose]();
    this.#cells.clear();
  }
}
