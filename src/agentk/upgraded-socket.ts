/**
 * The raw bytes after a 101, both ways. Each direction ends on its own (half-close), and neither reads more than the other
 * end has room for: bytes are credited when the kernel took them, the socket rests while the stream is full.
 */
import type { Duplex } from "node:stream";
import { type Failure, failure } from "../../actors/failure.ts";
import type { Stream } from "../link/stream.ts";
import type { Clock } from "../runtime/clock.ts";
import { FLUSH_WITHIN, MAX_QUEUED } from "./limits.ts";

export class UpgradedSocket {
  readonly #socket: Duplex;
  readonly #stream: Stream;
  #unwanted = false;
  #readDone = false;
  #writeDone = false;

  constructor(socket: Duplex, stream: Stream, upstream: string, broken: (failure: Failure) => void) {
    this.#socket = socket;
    this.#stream = stream;
    let reason = "closed by the other side";
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    socket.on("end", () => {
      this.#readDone = true;
      stream.end();
    });
    socket.on("error", (error: NodeJS.ErrnoException) => {
      reason = error.code ?? error.message;
    });
    socket.on("close", () => {
      if (this.#readDone && this.#writeDone) return;
      broken(
        failure("outcome-unknown", `the upgraded connection to ${upstream} broke (${reason}): start the session anew`),
      );
    });
  }

  write(bytes: Uint8Array): void {
    this.#socket.write(bytes, (error) => {
      if (!error) this.#stream.consumed(bytes.length);
    });
  }

  end(): void {
    this.#writeDone = true;
    this.#socket.end();
  }

  /** The stream has room again. */
  sent(): void {
    if (this.#socket.isPaused() && this.#stream.queued <= MAX_QUEUED) this.#socket.resume();
  }

  /** The other end wants no more of what the upstream says. */
  stopped(): void {
    this.#unwanted = true;
    this.#stream.end();
    this.#socket.resume();
  }

  /** Both directions ended: what was written last may still have to leave. */
  release(clock: Clock): void {
    if (this.#socket.closed) return;
    const linger = clock.schedule(clock.now() + FLUSH_WITHIN, () => this.#socket.destroy());
    this.#socket.on("close", () => linger[Symbol.dispose]());
  }

  destroy(): void {
    this.#readDone = true;
    this.#writeDone = true;
    this.#socket.destroy();
  }

  #read(chunk: Buffer): void {
    if (this.#unwanted) return;
    this.#stream.data(chunk);
    if (this.#stream.queued > MAX_QUEUED) this.#socket.pause();
  }
}
