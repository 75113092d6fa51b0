/**
 * The messages of the call that carries an agent link: `bytes frames = 1`, written and read by hand, at most 128 KiB. Where a
 * frame begins or ends in them does not matter, so bytes are handed on as they come: no message is ever gathered.
 */

const MAX_MESSAGE_BYTES = 128 * 1024;
const TAG = 0x0a; // field 1, length-delimited
const MAX_TAG_BYTES = 4;
export const MAX_BATCH_BYTES = MAX_MESSAGE_BYTES - MAX_TAG_BYTES;
/** In gRPC's hands at once, counted by write callbacks. */
export const MAX_BATCHES = 2;
/** Whatever the other side thinks a message may be. */
export const MAX_RECEIVED_BYTES = 4 * 1024 * 1024;
const PREFIX_BYTES = 5;
/** Up to here one copied buffer costs less than several that are written together. */
const COPIED_BYTES = 16 * 1024;

/**
 * One message with `bytes` bytes of frames as gRPC sends it (a byte that says "not compressed", four with the length, the
 * message): what is to be written, in order.
 */
export function encodePrefixed(parts: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  const header = PREFIX_BYTES + 1 + varintBytes(bytes);
  const copied = bytes <= COPIED_BYTES;
  const first = Buffer.allocUnsafe(header + (copied ? bytes : 0));
  first[0] = 0;
  first.writeUInt32BE(header - PREFIX_BYTES + bytes, 1);
  let at = writeField(first, PREFIX_BYTES, bytes);
  if (!copied) return [first, ...parts];
  for (const part of parts) {
    first.set(part, at);
    at += part.length;
  }
  return [first];
}

/** What is larger than a message is cut; only single frames are: CTL. */
export function* batchesOf(
  batch: readonly Uint8Array[],
  bytes: number,
): Generator<readonly [readonly Uint8Array[], number]> {
  if (bytes <= MAX_BATCH_BYTES) {
    yield [batch, bytes];
    return;
  }
  const whole = Buffer.concat(batch, bytes);
  for (let at = 0; at < bytes; at += MAX_BATCH_BYTES) {
    const part = whole.subarray(at, at + MAX_BATCH_BYTES);
    yield [[part], part.length];
  }
}

const varintBytes = (value: number): number => (value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x200000 ? 3 : 4);

function writeField(message: Buffer, from: number, value: number): number {
  message[from] = TAG;
  let at = from + 1;
  let rest = value;
  for (; rest >= 0x80; rest >>>= 7) message[at++] = (rest & 0x7f) | 0x80;
  message[at++] = rest;
  return at;
}

/** Where a reader is: gRPC's prefix, the tag of a field, a number (its value, or how long it is), the bytes of a field. */
const PREFIX = 0;
const FIELD = 1;
const NUMBER = 2;
const LENGTH = 3;
const BYTES = 4;

/** Takes gRPC's byte stream, cut anywhere, and hands on the bytes of every `frames` field; other fields are skipped. */
export class CallReader {
  readonly #onBytes: (bytes: Uint8Array) => void;
  #state = PREFIX;
  /** The number being read, and how many bytes of it or of the prefix came. */
  #value = 0;
  #came = 0;
  #tag = 0;
  /** Bytes still to come of the message, and of the field. */
  #message = 0;
  #field = 0;
  #broken = false;

  constructor(onBytes: (bytes: Uint8Array) => void) {
    this.#onBytes = onBytes;
  }

  /** False when these are no messages of ours, compressed ones included: nothing is read after that. */
  feed(chunk: Uint8Array): boolean {
    let at = 0;
    while (!this.#broken && at < chunk.length) {
      if (this.#state === BYTES) at = this.#bytes(chunk, at);
      else this.#byte(chunk[at++] ?? 0);
    }
    return !this.#broken;
  }

  #bytes(chunk: Uint8Array, at: number): number {
    const end = at + Math.min(this.#field, chunk.length - at);
    this.#field -= end - at;
    this.#message -= end - at;
    if (this.#field === 0) this.#next();
    if (this.#tag === TAG) this.#onBytes(chunk.subarray(at, end));
    return end;
  }

  #byte(byte: number): void {
    if (this.#state === PREFIX) {
      this.#prefix(byte);
      return;
    }
    this.#message--;
    this.#value += (byte & 0x7f) * 2 ** (7 * this.#came++);
    if (byte < 0x80) this.#number(this.#value);
    else if (this.#message === 0 || this.#came > 9) this.#broken = true;
  }

  #prefix(byte: number): void {
    if (this.#came === 0 && byte !== 0) this.#broken = true;
    this.#value = this.#value * 256 + byte;
    if (++this.#came < PREFIX_BYTES) return;
    this.#message = this.#value;
    if (this.#message > MAX_RECEIVED_BYTES) this.#broken = true;
    this.#next();
  }

  #number(value: number): void {
    if (this.#state === FIELD) this.#begin(value);
    else if (this.#state === LENGTH) this.#skip(value);
    else this.#next();
  }

  /** By the wire type of its tag; groups, which nobody sends, are none. */
  #begin(tag: number): void {
    this.#tag = tag;
    const type = tag & 7;
    if (tag < 8) this.#broken = true;
    else if (type === 0) this.#expect(NUMBER);
    else if (type === 1) this.#skip(8);
    else if (type === 2) this.#expect(LENGTH);
    else if (type === 5) this.#skip(4);
    else this.#broken = true;
  }

  #skip(bytes: number): void {
    if (bytes > this.#message) this.#broken = true;
    else if (bytes === 0) this.#next();
    else {
      this.#field = bytes;
      this.#state = BYTES;
    }
  }

  #next(): void {
    this.#expect(this.#message > 0 ? FIELD : PREFIX);
  }

  #expect(state: number): void {
    if (state > FIELD && this.#message === 0) this.#broken = true;
    this.#state = state;
    this.#value = 0;
    this.#came = 0;
  }
}
