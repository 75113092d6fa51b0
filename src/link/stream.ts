/**
 * One stream as its two users see it: the side that opened it (ingress, or a holder towards its agent) and the
 * side that serves it. Both directions carry OPEN/HEAD, DATA, TRAILER, END in order; RESET ends both at once.
 * Whoever gets DATA owes the sender `consumed(n)` once the bytes left its hands: that is the only credit there is.
 */
import type { Failure } from "../../actors/failure.ts";

export type Reset = {
  readonly failure: Failure;
  /** Proof that the other end never took the stream: nothing ran, so the request may be tried again. */
  readonly unprocessed: boolean;
};

/**
 * What a user of a stream may do. No method throws or blocks; after the stream is over each does nothing.
 * Payloads passed in belong to the stream from then on: do not write to them again.
 */
export interface Stream {
  /** Executing end: says that the stream was taken. HEAD implies it. */
  accept(): void;
  /** Answer's head (`encodeHead`). Executing end only, once, before data. */
  head(payload: Uint8Array): void;
  /** Queues bytes, any length. Above 64 KiB in `queued` a producer that can pause should, until `sent` says it shrank. */
  data(bytes: Uint8Array): void;
  /** gRPC status or HTTP trailers (`encodeTrailer`). */
  trailer(payload: Uint8Array): void;
  /** This direction is done. */
  end(): void;
  /** The other side need not send more in its direction; what still comes is dropped and credited here. */
  stop(): void;
  /** Ends both directions now and discards what is queued. The handler hears nothing after it. */
  reset(reset: Reset): void;
  /** The consumer has taken `bytes` of the DATA it was given: the other side may send as many more. */
  consumed(bytes: number): void;
  /** Whose turn its sending counts against from now on; links offer it for the streams that the other side opened. */
  group?(key: number | string): void;
  /** DATA bytes given to `data` that have not yet left for the carrier. */
  readonly queued: number;
}

/** What a user of a stream is told. Exactly one of `reset` and (both directions ended) closes it; then `closed` is called once. */
export interface StreamHandler {
  /** The executing end took the stream (or HEAD came): it may have run from here on. Called at most once, before `head`. */
  accepted(): void;
  head(payload: Uint8Array): void;
  data(bytes: Uint8Array): void;
  trailer(payload: Uint8Array): void;
  /** The other side is done sending. */
  end(): void;
  /** The other side needs no more of what we send. */
  stopped(): void;
  /** The other side reset the stream, or its link was lost (`unprocessed` only if the OPEN never left us or CLOSE excluded it). */
  reset(reset: Reset): void;
  /** `bytes` of our DATA left for the carrier. */
  sent(bytes: number): void;
  /** The stream is over, whoever ended it; nothing follows. */
  closed(): void;
}
