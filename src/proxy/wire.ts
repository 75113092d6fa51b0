/**
 * The caller's end of one request, whichever HTTP it speaks: its head and body as they come, and how an answer leaves. What HTTP
 * alone decides (framing, how an answer is cut, what becomes of a body that nobody wants) is behind it; all else is above it.
 */
import type { Failure } from "../../actors/failure.ts";
import type { RawRequest } from "./admission.ts";

/** A reason to refuse a request before it is looked at, and the status for it. */
export type Verdict = { readonly failure: Failure; readonly status: number };

export type AnswerFrame = {
  /** The caller shall send nothing more on this connection. */
  readonly last: boolean;
  /** No body follows, whatever the head says. */
  readonly bodiless: boolean;
  /** The head says how long the body is: there will be no trailers. */
  readonly sized: boolean;
};

export interface Wire extends RawRequest {
  readonly hasBody: boolean;
  /** All of the body came. */
  readonly bodyWhole: boolean;
  readonly paused: boolean;
  /** The answer left, and all of it. */
  readonly left: boolean;
  /** `over` is told once, when the answer left or the caller did. */
  onOver(over: () => void): void;
  /** Begins to read the body; `end` is told only if it is whole. */
  readBody(data: (chunk: Buffer) => void, end: () => void): void;
  pause(): void;
  resume(): void;
  /** The answer is whole and the rest of the body is not wanted: whoever still writes it shall read the answer. */
  discardRest(): void;
  sayContinue(): void;
  /** Throws for headers that are not valid HTTP; nothing was written then. */
  head(status: number, flat: string[], frame: AnswerFrame): void;
  /** What was written so far need not wait for more. */
  flush(): void;
  write(bytes: Uint8Array, taken: () => void): void;
  trailers(fields: [string, string][]): void;
  end(bytes: Uint8Array | string | null): void;
  /** Ends it so that no caller takes what it got for the whole. */
  cut(): void;
}
