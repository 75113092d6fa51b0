/**
 * A running actor. It takes one message at a time, in the order they were told, and performs the effects of each before
 * the next. A full mailbox refuses, never drops. When the actor throws, the cell forgets everything, its timers too, and
 * starts from nothing. Its timers end with it.
 */
import type { Actor, Schedule } from "../../actors/actor.ts";
import { type Failure, failure } from "../../actors/failure.ts";
import type { Clock } from "./clock.ts";

export const MAILBOX = 1_024;

export type CellOptions<Effect> = {
  readonly name: string;
  readonly clock: Clock;
  readonly perform: (effect: Effect) => void;
  /** The actor, or what it asked for, threw; the cell has started anew. */
  readonly crashed: (error: unknown) => void;
  readonly capacity?: number;
};

type Tagged = { readonly type: string };

export class Cell<State, Message, Effect extends Tagged> implements Disposable {
  readonly name: string;
  readonly #actor: Actor<State, Message, Effect>;
  readonly #options: CellOptions<Effect>;
  #state: State;
  #queue: Message[] | null = null;
  #timers: Map<string, Disposable> | null = null;
  #running = false;
  #over = false;

  constructor(actor: Actor<State, Message, Effect>, options: CellOptions<Effect>) {
    this.name = options.name;
    this.#actor = actor;
    this.#options = options;
    this.#state = actor.initial;
  }

  get state(): State {
    return this.#state;
  }

  /** A message told while another is taken waits for its turn; one told to a cell that is over goes nowhere. */
  tell(message: Message): Failure | null {
    if (this.#over) return null;
    if (!this.#running) {
      this.#run(message);
      return null;
    }
    this.#queue ??= [];
    const capacity = this.#options.capacity ?? MAILBOX;
    if (this.#queue.length >= capacity) {
      return failure("busy", `The mailbox of ${this.name} is full (${capacity} messages wait). Try again in a moment`);
    }
    this.#queue.push(message);
    return null;
  }

  [Symbol.dispose](): void {
    this.#over = true;
    this.#queue = null;
    this.#endTimers();
  }

  #run(first: Message): void {
    let crash: { readonly error: unknown } | null = null;
    let message: Message | undefined = first;
    this.#running = true;
    try {
      while (message !== undefined && !this.#over) {
        const [state, effects]: readonly [State, readonly (Effect | Schedule<Message>)[]] = this.#actor.receive(
          this.#state,
          message,
          this.#options.clock.now(),
        );
        this.#state = state;
        for (const effect of effects) this.#do(effect);
        message = this.#queue?.shift();
      }
    } catch (error) {
      crash = { error };
      this.#startAnew();
    }
    this.#running = false;
    if (crash) this.#options.crashed(crash.error);
  }

  #do(effect: Effect | Schedule<Message>): void {
    if (this.#over && isSchedule(effect)) return;
    if (isSchedule<Message>(effect)) this.#schedule(effect);
    else this.#options.perform(effect);
  }

  #schedule({ key, at, message }: Schedule<Message>): void {
    this.#timers ??= new Map();
    this.#timers.get(key)?.[Symbol.dispose]();
    const timer = this.#options.clock.schedule(at, () => {
      this.#timers?.delete(key);
      this.tell(message);
    });
    this.#timers.set(key, timer);
  }

  #startAnew(): void {
    this.#endTimers();
    this.#queue = null;
    this.#state = this.#actor.initial;
  }

  #endTimers(): void {
    for (const timer of this.#timers?.values() ?? []) timer[Symbol.dispose]();
    this.#timers = null;
  }
}

const isSchedule = <Message>(effect: Tagged): effect is Schedule<Message> => effect.type === "schedule";
