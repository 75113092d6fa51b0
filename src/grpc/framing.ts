/**
 * gRPC's own framing: each message behind one byte of flags and four of length. Streams of kind `grpc` carry exactly
 * these bytes, cut anywhere. Nothing is kept but the message being assembled, and its length is checked at its prefix.
 */
import { failed } from "../failed.ts";

const PREFIX_BYTES = 5;
/** Up to here a copy is cheaper than a second piece. */
const COPY_BYTES = 16 * 1024;

/** The message with its prefix, in one piece or two. */
export function frameMessage(message: Uint8Array): readonly Uint8Array[] {
  const copied = message.length <= COPY_BYTES;
  const prefixed = Buffer.allocUnsafe(PREFIX_BYTES + (copied ? message.length : 0));
  prefixed[0] = 0;
  prefixed.writeUInt32BE(message.length, 1);
  if (!copied) return [prefixed, message];
  prefixed.set(message, PREFIX_BYTES);
  return [prefixed];
}

export class MessageAssembler {
  readonly #maxBytes: number;
  readonly #prefix = Buffer.alloc(PREFIX_BYTES);
  #prefixFilled = 0;
  #message: Buffer | null = null;
  #filled = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Is a message begun and not yet whole? */
  get partial(): boolean {
    return this.#prefixFilled > 0;
  }

  /** Calls `whole` for each message that `chunk` completes. Throws `too-large` or `protocol`; the stream is of no use then. */
  push(chunk: Uint8Array, whole: (message: Buffer) => void): void {
    let at = 0;
    while (at < chunk.length) {
      at += this.#message ? this.#fill(this.#message, chunk, at) : this.#readPrefix(chunk, at);
      if (!this.#message || this.#filled < this.#message.length) continue;
      const message = this.#message;
      this.#message = null;
      this.#prefixFilled = 0;
      whole(message);
    }
  }

  #fill(message: Buffer, chunk: Uint8Array, at: number): number {
    const taken = Math.min(message.length - this.#filled, chunk.length - at);
    message.set(chunk.subarray(at, at + taken), this.#filled);
    this.#filled += taken;
    return taken;
  }

  #readPrefix(chunk: Uint8Array, at: number): number {
    const taken = Math.min(PREFIX_BYTES - this.#prefixFilled, chunk.length - at);
    this.#prefix.set(chunk.subarray(at, at + taken), this.#prefixFilled);
    this.#prefixFilled += taken;
    if (this.#prefixFilled < PREFIX_BYTES) return taken;
    const length = this.#prefix.readUInt32BE(1);
    if (this.#prefix[0] !== 0) throw failed("protocol", "a gRPC message came compressed, which was not offered");
    if (length > this.#maxBytes) {
      throw failed(
        "too-large",
        `a gRPC message is ${length} bytes; at most ${this.#maxBytes} are carried: send it in parts`,
      );
    }
    this.#message = Buffer.allocUnsafe(length);
    this.#filled = 0;
    return taken;
  }
}
