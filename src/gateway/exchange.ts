/**
 * A call and a stream, joined: what the caller sends goes to the agent, what the agent answers to the caller. Both are
 * slowed by their readers: no message is read while 64 KiB wait for the agent, and the agent gets credit only for what
 * HTTP/2 took, 64 KiB excepted. The first of failure, end and cancellation ends both, once.
 */

import type { StatusObject } from "@grpc/grpc-js";
import { failure } from "../../actors/failure.ts";
import type { RoutedStream, RouteRequest, Router } from "../cluster/router.ts";
import { Failed } from "../failed.ts";
import { decodeHead, decodeTrailer, type Head, type Trailer } from "../link/messages.ts";
import type { Reset, StreamHandler } from "../link/stream.ts";
import { failureOf } from "../status.ts";
import type { GuardedCall } from "./guard.ts";

const HIGH_WATER_BYTES = 64 * 1024;

/** What differs between the kinds of call. Each may throw `Failed`, which ends both sides with it. */
export interface Wire {
  /** A message of the caller as bytes for the agent. */
  up(message: Buffer): readonly Uint8Array[];
  head(head: Head): void;
  /** Bytes of the agent as messages for the caller. */
  down(bytes: Uint8Array, send: (message: Uint8Array) => void): void;
  trailer(trailer: Trailer, send: (message: Uint8Array) => void): void;
  /** The agent is done: the call's status. */
  end(): StatusObject;
}

export class Exchange implements StreamHandler {
  readonly #call: GuardedCall;
  readonly #wire: Wire;
  #stream: RoutedStream | null = null;
  #reading = false;
  #pulling = false;
  #halfClosed = false;
  #unwanted = false;
  /** DATA of the agent that it has no credit for yet. */
  #owed = 0;
  /** Bytes of messages that HTTP/2 has not taken yet. */
  #unsent = 0;

  constructor(call: GuardedCall, wire: Wire) {
    this.#call = call;
    this.#wire = wire;
  }

  begin(router: Router, request: RouteRequest): void {
    this.#stream = router.open(request, this);
    this.#pull();
  }

  /** A message of the caller. */
  message(bytes: Buffer): void {
    this.#reading = false;
    this.#attempt(() => {
      if (!this.#unwanted) for (const piece of this.#wire.up(bytes)) this.#stream?.data(piece);
    });
    this.#pull();
  }

  /** The caller has half-closed. */
  halfClose(): void {
    this.#halfClosed = true;
    this.#stream?.end();
  }

  /** The call is over: if the stream is not, nobody waits for it any more. */
  left(): void {
    const why =
      this.#call.timeLeft() <= 0 ? failure("deadline", "the deadline passed") : failure("cancelled", "the caller left");
    this.#end(why);
  }

  /** Ends both sides with what was thrown. */
  give(error: unknown): void {
    this.#end(failureOf(error));
    this.#call.fail(error);
  }

  readonly send = (message: Uint8Array): void => {
    this.#unsent += message.length;
    this.#call.send(message, () => {
      this.#unsent -= message.length;
      this.#grant();
    });
  };

  head(payload: Uint8Array): void {
    this.#attempt(() => this.#wire.head(decodeHead(payload)));
  }

  data(bytes: Uint8Array): void {
    this.#owed += bytes.length;
    this.#attempt(() => this.#wire.down(bytes, this.send));
    this.#grant();
  }

  trailer(payload: Uint8Array): void {
    this.#attempt(() => this.#wire.trailer(decodeTrailer(payload), this.send));
  }

  end(): void {
    this.#attempt(() => {
      this.#call.finish(this.#wire.end());
      this.#stream?.end();
    });
  }

  stopped(): void {
    this.#unwanted = true;
    this.#pull();
  }

  sent(): void {
    this.#pull();
  }

  reset({ failure }: Reset): void {
    this.#stream = null;
    this.#call.fail(new Failed(failure));
  }

  closed(): void {
    this.#stream = null;
  }

  accepted(): void {}

  /** Reads on, unless the agent's side is behind. A loop, because a message that is there already comes within `read`. */
  #pull(): void {
    if (this.#pulling) return;
    this.#pulling = true;
    while (this.#mayRead()) {
      this.#reading = true;
      this.#call.read();
    }
    this.#pulling = false;
  }

  #mayRead(): boolean {
    if (this.#reading || this.#halfClosed || !this.#stream) return false;
    return this.#unwanted || this.#stream.queued < HIGH_WATER_BYTES;
  }

  #grant(): void {
    if (this.#owed === 0 || this.#unsent >= HIGH_WATER_BYTES) return;
    this.#stream?.consumed(this.#owed);
    this.#owed = 0;
  }

  #attempt(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.give(error);
    }
  }

  #end(why: Reset["failure"]): void {
    this.#stream?.reset({ failure: why, unprocessed: false });
    this.#stream = null;
  }
}
