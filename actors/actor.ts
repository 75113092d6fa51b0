/**
 * What every actor is: a pure function of its state, one message and the time it was told.
 * It reads no clock, no dice, no socket; whatever it wants done it returns as data.
 */

/** Milliseconds: a duration, or a point on the monotonic clock of this node. */
export type Millis = number;

/** Asks the runtime to deliver `message` to this same actor at `at`; a newer schedule of the same `key` replaces the older. */
export type Schedule<Message> = {
  readonly type: "schedule";
  readonly key: string;
  readonly at: Millis;
  readonly message: Message;
};

export type Step<State, Effect> = readonly [state: State, effects: readonly Effect[]];

export interface Actor<State, Message, Effect> {
  readonly initial: State;
  receive(state: State, message: Message, now: Millis): Step<State, Effect | Schedule<Message>>;
}
