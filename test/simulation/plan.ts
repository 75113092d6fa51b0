/** What a simulated request is like: its body, what its agent does with it, and how patient its caller is. From the seed. */
import type { Millis } from "../../actors/actor.ts";
import type { Pace } from "./flow.ts";

/**
 * `after-body`: an ordinary answer. `early`: its head before the body ended. `at-once`: all of it, and STOP. `refuse`: with
 * proof. `fail`, `fail-midway`: by a RESET of the executor, before or within the answer. `watch`: little by little.
 */
export type AnswerKind = "after-body" | "early" | "at-once" | "refuse" | "fail" | "fail-midway" | "watch";

export type Plan = {
  readonly kind: "http" | "grpc";
  readonly idempotent: boolean;
  /** Bytes of the request's body and of the answer's. */
  readonly body: number;
  readonly size: number;
  readonly piece: number;
  readonly bodyPause: Millis;
  readonly answerPause: Millis;
  readonly answer: AnswerKind;
  /** ACCEPT is sent before there is anything to say. */
  readonly accepts: boolean;
  readonly trailer: boolean;
  readonly think: Millis;
  /** How the caller reads the answer, and the agent the body. */
  readonly reading: Pace;
  readonly taking: Pace;
  readonly acceptWithin: Millis;
  /** 0: no limit for the whole. */
  readonly timeLeft: Millis;
  /** When the caller leaves; null: it waits to the end. */
  readonly leaves: Millis | null;
  /** After how many bytes of the answer the caller wants no more; null: it reads all. */
  readonly stopsAfter: number | null;
};

export interface Dice {
  roll(sides: number): number;
  chance(probability: number): boolean;
}

const KIB = 1024;
/** At most so many of a body, so that pauses between them do not add up to minutes. */
const PIECES = 50;

function sizeOf(dice: Dice, none: number): number {
  const r = dice.roll(1_000) / 1_000;
  if (r < none) return 0;
  if (r < 0.8) return 1 + dice.roll(2 * KIB);
  if (r < 0.93) return dice.roll(40 * KIB);
  if (r < 0.985) return dice.roll(150 * KIB);
  return 150 * KIB + dice.roll(200 * KIB);
}

function answerOf(dice: Dice): AnswerKind {
  const r = dice.roll(100);
  if (r < 68) return "after-body";
  if (r < 80) return "early";
  if (r < 86) return "at-once";
  if (r < 89) return "refuse";
  if (r < 92) return "fail";
  if (r < 95) return "fail-midway";
  return "watch";
}

const paceOf = (dice: Dice): Pace => (dice.chance(0.75) ? "eager" : dice.chance(0.5) ? "slow" : "pausing");

export function planOf(dice: Dice): Plan {
  const answer = answerOf(dice);
  const acceptWithin = 4_000 + dice.roll(8_000);
  const watch = answer === "watch";
  const body = sizeOf(dice, 0.45);
  const size = watch ? 200 + dice.roll(2_000) : sizeOf(dice, 0.1);
  const least = watch ? 100 : 1 + dice.roll(dice.chance(0.5) ? 2 * KIB : 40 * KIB);
  const piece = Math.max(least, Math.ceil(Math.max(body, size) / PIECES));
  return {
    kind: dice.chance(0.8) ? "http" : "grpc",
    idempotent: dice.chance(0.5),
    body,
    size,
    piece,
    bodyPause: dice.chance(0.1) ? 1 + dice.roll(60) : 0,
    answerPause: watch ? 50 + dice.roll(400) : 0,
    answer,
    accepts: dice.chance(0.5),
    trailer: dice.chance(0.5),
    think: dice.chance(0.35) ? dice.roll(2_500) : dice.roll(40),
    reading: paceOf(dice),
    taking: paceOf(dice),
    acceptWithin,
    timeLeft: dice.chance(0.1) ? 300 + dice.roll(8_000) : 0,
    leaves: dice.chance(watch ? 0.7 : 0.06) ? dice.roll(dice.chance(0.5) ? 200 : acceptWithin) : null,
    stopsAfter: dice.chance(0.03) ? dice.roll(10_000) : null,
  };
}
