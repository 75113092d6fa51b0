/**
 * Which of a node's agents are asked to connect anew. Idle ones first, those connected longest before others, and never one
 * with an interactive stream unless all must go: an agent that is moved thrice lets go of what runs on its oldest link.
 */
import type { Millis } from "./actor.ts";
import { fraction, mixId } from "./hash.ts";
import type { ConnectionId } from "./ids.ts";

export type Movable = {
  readonly id: ConnectionId;
  readonly streams: number;
  /** Of these: those that last (watches, large bodies), and those a person sits at. */
  readonly lasting: number;
  readonly interactive: number;
  readonly age: Millis;
};

/** An agent with streams that last is left where it is for so long. */
const LASTING_REST: Millis = 600_000;

const idleFirst = (a: Movable, b: Movable): number => a.streams - b.streams || b.age - a.age;

/** All must go; these first. */
export const leaving = <M extends Movable>(agents: readonly M[], count: number): readonly M[] =>
  [...agents].sort(idleFirst).slice(0, count);

/** Somebody should go; these may. */
export const willing = <M extends Movable>(agents: readonly M[], count: number): readonly M[] =>
  leaving(
    agents.filter(({ interactive, lasting, age }) => interactive === 0 && (lasting === 0 || age >= LASTING_REST)),
    count,
  );

/** Too old to stay, each at its own time between 0.75 and 1.25 of `limit`. */
export const aged = <M extends Movable>(agents: readonly M[], limit: Millis, seed: number): readonly M[] =>
  agents.filter(
    ({ id, age, interactive }) => interactive === 0 && age >= limit * (0.75 + 0.5 * fraction(mixId(id) ^ seed)),
  );
