/**
 * One answer to a caller. It looks whole only if it is: an answer that is cut, or does not keep to its own content-length, never
 * ends as a whole one does. Head and what comes in the same turn leave in one packet.
 */
import type { Failure } from "../../actors/failure.ts";
import type { FlatHeaders, Head } from "../link/messages.ts";
import { httpFailure } from "../status.ts";
import { type AnswerPolicy, answerHeaders, answerTrailers } from "./answer-headers.ts";
import type { Wire } from "./wire.ts";

export type AnswerOptions = {
  /** Told for each piece once the socket took it. */
  readonly taken: (bytes: number) => void;
  /** Is it, at the time of its head, its socket's last? Then HTTP/1.1 says `connection: close`. */
  readonly last: () => boolean;
};

export class Answer {
  readonly #wire: Wire;
  readonly #options: AnswerOptions;
  status = 0;
  bytes = 0;
  ended = false;
  #expected = -1;
  #bodiless = false;
  #held: Uint8Array | null = null;
  #flushed = false;

  constructor(wire: Wire, options: AnswerOptions) {
    this.#wire = wire;
    this.#options = options;
  }

  get started(): boolean {
    return this.status > 0;
  }

  /** Throws `protocol`, or what node throws for headers that are not valid HTTP; nothing was written then. */
  head(head: Head, policy: AnswerPolicy): void {
    const { flat, contentLength } = answerHeaders(head, policy);
    this.#bodiless = this.#wire.method === "HEAD" || head.status === 204 || head.status === 304;
    this.#expected = this.#bodiless ? -1 : contentLength;
    const frame = { last: this.#options.last(), bodiless: this.#bodiless, sized: this.#expected >= 0 };
    this.#wire.head(head.status, flat, frame);
    this.status = head.status;
    process.nextTick(flush, this);
  }

  data(bytes: Uint8Array): void {
    if (this.ended || this.#bodiless) {
      this.#options.taken(bytes.length);
      return;
    }
    this.bytes += bytes.length;
    if (this.#expected >= 0 && this.bytes > this.#expected) this.cut();
    else if (!this.#flushed && this.#held === null) this.#held = bytes;
    else this.#write(bytes);
  }

  trailer(headers: FlatHeaders): void {
    if (!this.ended && this.#expected < 0 && !this.#bodiless) this.#wire.trailers(answerTrailers(headers));
  }

  end(): void {
    if (this.ended) return;
    if (this.#expected >= 0 && this.bytes < this.#expected) {
      this.cut();
      return;
    }
    this.ended = true;
    this.#flushed = true;
    const held = this.#held;
    this.#held = null;
    this.#wire.end(held);
  }

  /** Ours instead of the cluster's: a Kubernetes Status before the head, a cut after it. `http`: where HTTP has a closer status. */
  fail(failure: Failure, traceId: string, extra: FlatHeaders, http?: number): void {
    if (this.started) {
      this.cut();
      return;
    }
    const { status, headers, body } = httpFailure(failure, traceId, http);
    const flat: string[] = [];
    for (const [name, value] of Object.entries(headers)) flat.push(name, value);
    for (let i = 0; i + 1 < extra.length; i += 2) {
      if (extra[i] !== "x-kas-trace-id") flat.push(extra[i] ?? "", extra[i + 1] ?? "");
    }
    this.plain(status, flat, body);
  }

  /** A short answer of our own. */
  plain(status: number, flat: string[], body: string): void {
    const bodiless = this.#wire.method === "HEAD";
    this.#wire.head(status, flat, { last: this.#options.last(), bodiless, sized: true });
    this.status = status;
    this.bytes = bodiless ? 0 : Buffer.byteLength(body);
    this.ended = true;
    this.#flushed = true;
    this.#wire.end(body);
  }

  /** Ends it so that no caller takes what it got for the whole. */
  cut(): void {
    this.ended = true;
    this.#flushed = true;
    this.#held = null;
    this.#wire.cut();
  }

  /** @internal for the turn's end. */
  flush(): void {
    if (this.#flushed) return;
    this.#flushed = true;
    const held = this.#held;
    this.#held = null;
    if (held) this.#write(held);
    else this.#wire.flush();
  }

  #write(bytes: Uint8Array): void {
    if (!this.#flushed) this.flush();
    this.#wire.write(bytes, () => this.#options.taken(bytes.length));
  }
}

function flush(answer: Answer): void {
  answer.flush();
}
