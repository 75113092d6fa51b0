/**
 * The client's end of the call that carries an agent link, gRPC written and read by hand on a `node:http2` session that carries
 * nothing else and ends with it. It can be written to before there is a socket; why it ended is told once, before `onClosed`.
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from "node:http2";
import type { Duplex } from "node:stream";
import type { Millis } from "../../../actors/actor.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Carrier } from "../link.ts";
import { type CallOver, Ending } from "./call-ending.ts";
import { batchesOf, CallReader, encodePrefixed, MAX_BATCH_BYTES, MAX_BATCHES } from "./call-message.ts";
import { writeTogether } from "./write-together.ts";

const MIB = 1024 * 1024;
const SESSION_WINDOW = 8 * MIB;
const STREAM_WINDOW = 4 * MIB;
const MAX_SESSION_MIB = 16;
/** How long the goodbye of the session may take to leave. */
const LINGER: Millis = 1_000;

export type CallRequest = {
  readonly scheme: "http" | "https";
  /** `host:port`. */
  readonly authority: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
};

export type Http2CallOptions = {
  readonly clock: Clock;
  /** Called once, whoever ended it. */
  readonly over: (why: CallOver) => void;
};

type Written = { readonly message: readonly Uint8Array[]; readonly taken: (() => void) | null };

export class Http2Call implements Carrier {
  readonly maxBatchBytes = MAX_BATCH_BYTES;
  readonly maxBatches = MAX_BATCHES;
  onData: (chunk: Uint8Array) => void = () => {};
  onClosed: (reason: string) => void = () => {};
  readonly #options: Http2CallOptions;
  readonly #reader = new CallReader((bytes) => this.onData(bytes));
  readonly #ending = new Ending();
  readonly #gone = Promise.withResolvers<void>();
  /** Written before there was a socket; a link has no more than `maxBatches` and a farewell under way. */
  #pending: Written[] = [];
  #socket: Duplex | null = null;
  #session: ClientHttp2Session | null = null;
  #stream: ClientHttp2Stream | null = null;
  #ended = false;
  #over = false;

  constructor(options: Http2CallOptions) {
    this.#options = options;
  }

  /** Resolves when it is over and the socket under it is closed. */
  get gone(): Promise<void> {
    return this.#gone.promise;
  }

  /** Speaks HTTP/2 on `socket` and owns it from now on. */
  start(socket: Duplex, request: CallRequest): void {
    if (this.#over) {
      socket.destroy();
      return;
    }
    this.#socket = socket;
    const { scheme, authority, path, headers } = request;
    const session = connect(`${scheme}://${authority}`, {
      createConnection: () => socket,
      settings: { initialWindowSize: STREAM_WINDOW, enablePush: false },
      maxSessionMemory: MAX_SESSION_MIB,
    });
    this.#session = session;
    session.once("connect", () => session.setLocalWindowSize(SESSION_WINDOW));
    session.on("error", (error) => this.#ending.broke(error));
    session.on("goaway", (code) => this.#ending.goAway(code));
    session.once("close", () => this.#sessionClosed());
    try {
      this.#stream = session.request({
        ":method": "POST",
        ":scheme": scheme,
        ":authority": authority,
        ":path": path,
        ...headers,
        "content-type": "application/grpc",
        te: "trailers",
      });
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    this.#serve(this.#stream);
  }

  /** There will be no socket. */
  fail(error: Error): void {
    this.#ending.broke(error);
    this.#finish();
  }

  write(batch: readonly Uint8Array[], bytes: number, taken: () => void): void {
    if (this.#over || this.#ended) return;
    let left = bytes;
    for (const [parts, size] of batchesOf(batch, bytes)) {
      left -= size;
      const written = { message: encodePrefixed(parts, size), taken: left === 0 ? taken : null };
      if (this.#stream) writeTogether(this.#stream, written.message, written.taken);
      else this.#pending.push(written);
    }
  }

  end(): void {
    if (this.#over || this.#ended) return;
    this.#ended = true;
    if (this.#stream) this.#stream.end();
    else this.fail(new Error("no connection was made in time")); // nobody to flush to
  }

  destroy(): void {
    if (!this.#over) {
      this.#ending.endedHere();
      this.#finish();
    }
    this.#session?.destroy();
    this.#socket?.destroy(); // a session that has said goodbye waits for the other side to close
  }

  #serve(stream: ClientHttp2Stream): void {
    stream.on("response", (headers) => {
      if (!this.#ending.answered(headers)) this.#finish();
    });
    stream.on("trailers", (headers) => this.#ending.trailers(headers));
    stream.on("data", (chunk: Buffer) => this.#receive(chunk));
    stream.on("error", (error) => this.#ending.broke(error));
    stream.once("end", () => this.#finish());
    stream.once("close", () => this.#finish());
    const pending = this.#pending;
    this.#pending = [];
    for (const { message, taken } of pending) writeTogether(stream, message, taken);
  }

  #receive(chunk: Buffer): void {
    if (this.#over || this.#reader.feed(chunk)) return;
    this.#ending.broke(new Error("the answer is no gRPC message of this call"));
    this.#finish();
  }

  #sessionClosed(): void {
    this.#finish();
    this.#gone.resolve();
  }

  #finish(): void {
    if (this.#over) return;
    this.#over = true;
    this.#pending = [];
    const why = this.#ending.why();
    this.#options.over(why);
    this.onClosed(why.reason);
    this.#leave();
  }

  /** The session says goodbye, at most for `LINGER`. */
  #leave(): void {
    const session = this.#session;
    if (!session) {
      this.#gone.resolve();
      return;
    }
    if (session.destroyed) return; // its "close" is on its way
    this.#stream?.close(constants.NGHTTP2_CANCEL);
    session.close();
    const { clock } = this.#options;
    const linger = clock.schedule(clock.now() + LINGER, () => this.destroy());
    session.once("close", () => linger[Symbol.dispose]());
  }
}
