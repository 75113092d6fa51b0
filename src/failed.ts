/** The only exception this project throws: a failure that has to cross a stack. */
import type { Failure, FailureCode } from "../actors/failure.ts";

export class Failed extends Error {
  override readonly name = "Failed";
  readonly failure: Failure;

  constructor(failure: Failure, options?: ErrorOptions) {
    super(`${failure.code}: ${failure.reason}`, options);
    this.failure = failure;
  }
}

/** Shorthand for `new Failed({ code, reason }, { cause })`. */
export const failed = (code: FailureCode, reason: string, cause?: unknown): Failed =>
  new Failed({ code, reason }, cause === undefined ? undefined : { cause });
