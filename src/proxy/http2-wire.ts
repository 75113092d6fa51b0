/**
 * A request on a stream of an HTTP/2 session. What is cut ends with RST_STREAM, so the session lives on, and a body that nobody
 * wants is ended by RST_STREAM(NO_ERROR) after the whole answer, as RFC 9113 (8.1) has it.
 */
import { validateHeaderName, validateHeaderValue } from "node:http";
import { constants, type ServerHttp2Stream } from "node:http2";
import type { Millis } from "../../actors/actor.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Http2Head } from "./http2-head.ts";
import type { AnswerFrame, Wire } from "./wire.ts";

const { NGHTTP2_NO_ERROR } = constants;

const LOOK_EVERY: Millis = 50;
const CUT = new Error("the answer was cut");

export class Http2Wire implements Wire {
  readonly #stream: ServerHttp2Stream;
  readonly #head: Http2Head;
  readonly #clock: Clock;
  readonly hasBody: boolean;
  readonly #trailers: Record<string, string> = {};
  #cut = false;
  /** The last byte of the answer is in a frame. */
  #packed = false;
  /** The rest of the body is. */
  #unwanted = false;
  #ending: Disposable | null = null;
  /** Nothing may follow the head. */
  #headOnly = false;

  constructor(stream: ServerHttp2Stream, head: Http2Head, clock: Clock) {
    this.#clock = clock;
    this.#stream = stream;
    this.#head = head;
    this.hasBody = !stream.endAfterHeaders;
    stream.on("error", ignore);
    stream.once("close", () => this.#ending?.[Symbol.dispose]());
    // The caller took it back: without this a stream whose body is not read would hear of it late, or never.
    stream.on("aborted", () => stream.destroy());
    if (!this.hasBody) stream.resume();
  }

  get method(): string | undefined {
    return this.#head.method;
  }

  get url(): string | undefined {
    return this.#head.url;
  }

  get rawHeaders(): readonly string[] {
    return this.#head.rawHeaders;
  }

  get bodyWhole(): boolean {
    return this.#stream.readableEnded;
  }

  get paused(): boolean {
    return this.#stream.isPaused();
  }

  /** Not `writableFinished`: a stream closes as soon as its last frame is packed, and the write may end later. */
  get left(): boolean {
    const { aborted, rstCode } = this.#stream;
    return !this.#cut && this.#packed && !aborted && rstCode === NGHTTP2_NO_ERROR;
  }

  /** Answered at least with a head. */
  get answered(): boolean {
    return this.#stream.headersSent;
  }

  onOver(over: () => void): void {
    this.#stream.once("close", over);
  }

  readBody(data: (chunk: Buffer) => void, end: () => void): void {
    const stream = this.#stream;
    stream.on("data", data);
    // node:http2 ends a body also when its stream was reset or its session lost: that one is not whole.
    stream.on("end", () => {
      if (!stream.aborted && !stream.destroyed && stream.rstCode === NGHTTP2_NO_ERROR) end();
    });
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  discardRest(): void {
    if (!this.hasBody || this.#stream.readableEnded || this.#stream.destroyed) return;
    this.#stream.resume();
    this.#unwanted = true;
    if (this.#packed) setImmediate(endBody, this);
  }

  sayContinue(): void {
    if (!this.#stream.closed) this.#stream.additionalHeaders({ ":status": 100 });
  }

  head(status: number, flat: string[], { bodiless }: AnswerFrame): void {
    for (let i = 0; i + 1 < flat.length; i += 2) {
      validateHeaderName(flat[i] ?? "");
      validateHeaderValue(flat[i] ?? "", flat[i + 1] ?? "");
    }
    const stream = this.#stream;
    if (stream.closed || stream.destroyed) return; // its caller's leaving is told in a moment
    this.#headOnly = bodiless || status === 205;
    this.#packed = this.#headOnly;
    stream.once("wantTrailers", () => this.#finish());
    const options = { endStream: this.#headOnly, waitForTrailers: !this.#headOnly };
    stream.respond([":status", String(status), ...flat], options);
  }

  /** Only this ends the stream, with trailers or without. */
  #finish(): void {
    if (this.#stream.closed || this.#stream.destroyed) return;
    try {
      this.#stream.sendTrailers(this.#trailers);
    } catch {
      this.cut(); // a trailer that HTTP/2 does not know as one
      return;
    }
    this.#packed = true;
    if (this.#unwanted) setImmediate(endBody, this);
  }

  /** @internal A reset overtakes what its session has not sent yet: it waits for the end of the answer. */
  endBody(): void {
    const stream = this.#stream;
    if (stream.closed || stream.destroyed) return;
    if (stream.state.localClose === 1) stream.close(NGHTTP2_NO_ERROR);
    else this.#ending = this.#clock.schedule(this.#clock.now() + LOOK_EVERY, () => this.endBody());
  }

  flush(): void {}

  write(bytes: Uint8Array, taken: () => void): void {
    if (this.#headOnly) {
      taken();
      return;
    }
    if (!this.#stream.writable) return;
    this.#stream.write(bytes, (error) => {
      if (!error) taken();
    });
  }

  trailers(fields: [string, string][]): void {
    for (const [name, value] of fields) {
      validateHeaderName(name);
      validateHeaderValue(name, value);
    }
    for (const [name, value] of fields) {
      const before = this.#trailers[name];
      this.#trailers[name] = before === undefined ? value : `${before}, ${value}`;
    }
  }

  end(bytes: Uint8Array | string | null): void {
    if (this.#headOnly || !this.#stream.writable) return;
    if (bytes === null) this.#stream.end();
    else this.#stream.end(bytes);
  }

  cut(): void {
    this.#cut = true;
    // RST_STREAM(INTERNAL_ERROR). `close(INTERNAL_ERROR)` ends it first, and may send that instead: seen on Node 24.21.
    this.#stream.destroy(CUT);
  }

  /** node:http2 does not tell of a RST_STREAM(NO_ERROR) that comes while the answer waits for its caller: this finds it. */
  sweep(): void {
    if (!this.#stream.closed || this.#stream.destroyed) return;
    this.#cut = true;
    this.#stream.destroy();
  }
}

function endBody(wire: Http2Wire): void {
  wire.endBody();
}

function ignore(): void {}
