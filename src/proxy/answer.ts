/**
 * One answer on an HTTP/1.1 socket. It looks whole only if it is: an answer that is cut, or does not keep to its own
 * content-length, ends with the socket destroyed. Head and what comes in the same turn leave in one packet.
 */
import type { ServerResponse } from "node:http";
import { TLSSocket } from "node:tls";
import type { Failure } from "../../actors/failure.ts";
import type { FlatHeaders, Head } from "../link/messages.ts";
import { httpFailure } from "../status.ts";
import { type AnswerPolicy, answerHeaders, answerTrailers } from "./answer-headers.ts";

export type AnswerOptions = {
  /** Told for each piece once the socket took it. */
  readonly taken: (bytes: number) => void;
  /** Is it, at the time of its head, its socket's last? Then it says `connection: close`. */
  readonly last: () => boolean;
};

export class Answer {
  readonly #res: ServerResponse;
  readonly #options: AnswerOptions;
  status = 0;
  bytes = 0;
  ended = false;
  #expected = -1;
  #bodiless = false;
  #held: Uint8Array | null = null;
  #flushed = false;

  constructor(res: ServerResponse, options: AnswerOptions) {
    this.#res = res;
    this.#options = options;
  }

  get started(): boolean {
    return this.status > 0;
  }

  /** Throws `protocol`, or what node:http throws for headers that are not valid; nothing was written then. */
  head(head: Head, policy: AnswerPolicy): void {
    const { flat, contentLength } = answerHeaders(head, policy);
    this.#bodiless = this.#res.req.method === "HEAD" || head.status === 204 || head.status === 304;
    if (this.#options.last()) flat.push("connection", "close");
    this.#res.writeHead(head.status, flat);
    this.status = head.status;
    this.#expected = this.#bodiless ? -1 : contentLength;
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
    if (!this.ended && this.#expected < 0 && !this.#bodiless) this.#res.addTrailers(answerTrailers(headers));
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
    if (held) this.#res.end(held);
    else this.#res.end();
  }

  /** Ours instead of the cluster's: a Kubernetes Status before the head, a cut after it. */
  fail(failure: Failure, traceId: string, extra: FlatHeaders): void {
    if (this.started) {
      this.cut();
      return;
    }
    const { status, headers, body } = httpFailure(failure, traceId);
    const flat: string[] = [];
    for (const [name, value] of Object.entries(headers)) flat.push(name, value);
    for (let i = 0; i + 1 < extra.length; i += 2) {
      if (extra[i] !== "x-kas-trace-id") flat.push(extra[i] ?? "", extra[i + 1] ?? "");
    }
    this.plain(status, flat, body);
  }

  /** A short answer of our own. */
  plain(status: number, flat: string[], body: string): void {
    if (this.#options.last()) flat.push("connection", "close");
    this.#res.writeHead(status, flat);
    this.status = status;
    this.bytes = this.#res.req.method === "HEAD" ? 0 : Buffer.byteLength(body);
    this.ended = true;
    this.#flushed = true;
    this.#res.end(body);
  }

  /** Ends the socket so that no caller takes what it got for the whole. */
  cut(): void {
    this.ended = true;
    this.#flushed = true;
    this.#held = null;
    const { socket } = this.#res.req; // an answer that waits for its turn has none of its own
    const endsByClose = this.started && this.#expected < 0 && !this.#res.chunkedEncoding; // HTTP/1.0
    if (endsByClose && !(socket instanceof TLSSocket)) socket.resetAndDestroy();
    else socket.destroy();
  }

  /** @internal for the turn's end. */
  flush(): void {
    if (this.#flushed) return;
    this.#flushed = true;
    const held = this.#held;
    this.#held = null;
    if (held) this.#write(held);
    else this.#res.flushHeaders();
  }

  #write(bytes: Uint8Array): void {
    if (!this.#flushed) this.flush();
    this.#res.write(bytes, (error) => {
      if (!error) this.#options.taken(bytes.length);
    });
  }
}

function flush(answer: Answer): void {
  answer.flush();
}
