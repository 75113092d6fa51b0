/** Why something that was asked for did not happen: expected, a value, and one of a closed list of codes. */

/** On the wire a code is its index in this list: append only, never reorder. */
export const FAILURE_CODES = [
  "unauthenticated",
  "forbidden",
  "agent-unknown",
  "invalid",
  "agent-offline",
  "not-owner",
  "node-gone",
  "draining",
  "busy",
  "too-large",
  "deadline",
  "cancelled",
  "outcome-unknown",
  "upstream-unreachable",
  "cluster-unavailable",
  "protocol",
  "internal",
] as const;

export type FailureCode = (typeof FAILURE_CODES)[number];

export type Failure = {
  readonly code: FailureCode;
  /** What failed, for whom, why and what to do; meant for the caller, except for `internal`. */
  readonly reason: string;
};

export const failure = (code: FailureCode, reason: string): Failure => ({ code, reason });
