/** A stream of a link as its user holds it: each wish becomes state of the automaton and leaves at the end of the turn. */
import type { LinkState } from "../../actors/link.ts";
import {
  acceptStream,
  consumed,
  regroup,
  resetStream,
  sendData,
  sendEnd,
  sendHead,
  sendTrailer,
  stopStream,
} from "../../actors/link-send.ts";
import type { StreamState } from "../../actors/stream.ts";
import type { Reset, Stream } from "./stream.ts";

export class LinkedStream implements Stream {
  readonly #link: LinkState;
  readonly #state: StreamState;
  readonly #waker: { wake(): void };

  constructor(link: LinkState, state: StreamState, waker: { wake(): void }) {
    this.#link = link;
    this.#state = state;
    this.#waker = waker;
  }

  accept(): void {
    acceptStream(this.#link, this.#state);
    this.#waker.wake();
  }

  head(payload: Uint8Array): void {
    sendHead(this.#link, this.#state, payload);
    this.#waker.wake();
  }

  data(bytes: Uint8Array): void {
    sendData(this.#link, this.#state, bytes);
    this.#waker.wake();
  }

  trailer(payload: Uint8Array): void {
    sendTrailer(this.#link, this.#state, payload);
    this.#waker.wake();
  }

  end(): void {
    sendEnd(this.#link, this.#state);
    this.#waker.wake();
  }

  stop(): void {
    stopStream(this.#link, this.#state);
    this.#waker.wake();
  }

  reset(reset: Reset): void {
    resetStream(this.#link, this.#state, reset);
    this.#waker.wake();
  }

  consumed(bytes: number): void {
    consumed(this.#link, this.#state, bytes);
    if (this.#state.creditDue) this.#waker.wake();
  }

  group(key: number | string): void {
    regroup(this.#link, this.#state, key);
  }

  get queued(): number {
    return this.#state.queued;
  }
}
