/**
 * What a caller sends, in order. Until an agent accepted it is kept, so that each attempt sends the whole of it; then it is
 * forgotten, and a body of which anything was sent by then cannot be sent again.
 */
import type { Stream } from "../link/stream.ts";

export class Replay {
  #kept: Uint8Array[] | null = [];
  #bytes = 0;
  #ended = false;
  #stopped = false;

  get ended(): boolean {
    return this.#ended;
  }

  /** Bytes that wait while there is no stream. */
  get waiting(): number {
    return this.#kept ? this.#bytes : 0;
  }

  data(bytes: Uint8Array): void {
    this.#bytes += bytes.length;
    this.#kept?.push(bytes);
  }

  end(): void {
    this.#ended = true;
  }

  stop(): void {
    this.#stopped = true;
  }

  sendTo(stream: Stream): void {
    for (const bytes of this.#kept ?? []) stream.data(bytes);
    if (this.#stopped) stream.stop();
    if (this.#ended) stream.end();
  }

  forget(): void {
    this.#kept = null;
  }

  /** Can all of it be sent again? Where nothing came yet, what comes from now on is kept anew. */
  recall(): boolean {
    if (this.#bytes === 0) this.#kept = [];
    return this.#kept !== null;
  }
}
