/** Waits for an answer, but no longer than until its deadline: then it is a failure of that code and text. */
import type { Millis } from "../../actors/actor.ts";
import type { Failure } from "../../actors/failure.ts";
import { Failed } from "../failed.ts";
import type { Clock } from "./clock.ts";

/** `send` gets the function that answers; what it returns refuses at once (a full mailbox). Later answers go nowhere. */
export function ask<Answer>(
  clock: Clock,
  within: Millis,
  late: Failure,
  send: (answer: (value: Answer) => void) => Failure | null,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const timer = clock.schedule(clock.now() + within, () => reject(new Failed(late)));
    const refused = send((value) => {
      timer[Symbol.dispose]();
      resolve(value);
    });
    if (!refused) return;
    timer[Symbol.dispose]();
    reject(new Failed(refused));
  });
}
