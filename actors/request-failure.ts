/** What a caller reads when a request could not be carried: what failed, for which agent, when and where it was last seen, what to do. */
import type { Millis } from "./actor.ts";
import { type Failure, failure } from "./failure.ts";
import { nameOf } from "./ids.ts";
import type { Known } from "./request-state.ts";

const two = (n: number) => String(n).padStart(2, "0");

/** Wall clock as `14:02 UTC`. */
const timeOfDay = (wall: number) =>
  `${two(Math.floor(wall / 3_600_000) % 24)}:${two(Math.floor(wall / 60_000) % 60)} UTC`;

const lastSeen = ({ seen }: Known): string =>
  seen ? `last seen ${timeOfDay(seen.wall)} on ${nameOf(seen.node)}` : "not seen by any node in the last minutes";

const CHECK = "Check the agent's pod: kubectl logs deploy/agentk in its namespace";

export const offline = (known: Known): Failure =>
  failure("agent-offline", `Agent ${known.spec.agent} is not connected (${lastSeen(known)}). ${CHECK}`);

const seconds = (millis: Millis) => `${Math.round(millis / 100) / 10} s`;

/**
 * Its time to be accepted has passed. What refused every attempt is the answer, and proof that nothing ran; an attempt that
 * is under way, or one that was lost, may run or have run.
 */
export function deadlineFailure(known: Known, underWay: boolean): Failure {
  if (known.lost) return unknownOutcome(known, known.lost);
  const { agent, within } = known.spec;
  const waited = seconds(within);
  const last = known.failure ? `; the last attempt: ${known.failure.reason}` : "";
  if (known.attempts === 0 || known.polls > 0) {
    const text = `Agent ${agent} did not connect within ${waited} (${lastSeen(known)})`;
    return failure("agent-offline", `${text}${last}. ${CHECK}`);
  }
  const count = known.attempts === 1 ? "1 attempt" : `${known.attempts} attempts`;
  const text = `Agent ${agent} did not accept the request within ${waited} in ${count}`;
  if (known.failure && !underWay) return failure(known.failure.code, `${text}, so nothing ran${last}`);
  return failure("deadline", `${text}${last}. Try again, or allow more time`);
}

export const unknownOutcome = (known: Known, cause: Failure): Failure =>
  failure(
    "outcome-unknown",
    `The agent may have executed it: the way to agent ${known.spec.agent} broke after the request was sent ` +
      `(${cause.reason}). Look at the cluster before you repeat it`,
  );
