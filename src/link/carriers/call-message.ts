/**
 * The messages of the call that carries an agent link: `bytes frames = 1`, written and read by hand, at most 128 KiB. Where a
 * frame begins or ends in them does not matter. `CallReader` cuts them out of gRPC's byte stream.
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

/** One message with `bytes` bytes of frames, behind `room` bytes that the caller fills. */
export function encodeMessage(parts: readonly Uint8Array[], bytes: number, room = 0): Buffer {
  const message = Buffer.allocUnsafe(room + 1 + varintBytes(bytes) + bytes);
  let at = writeField(message, room, bytes);
  for (const part of parts) {
    message.set(part, at);
    at += part.length;
  }
  return message;
}

/** The same as gRPC sends it: a byte that says "not compressed", four with the length, the message. */
export function encodePrefixed(parts: readonly Uint8Array[], bytes: number): Buffer {
  const framed = encodeMessage(parts, bytes, PREFIX_BYTES);
  framed[0] = 0;
  framed.writeUInt32BE(framed.length - PREFIX_BYTES, 1);
  return framed;
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

/** Where a reader of protobuf is; what cannot be read is NaN. */
class Cursor {
  readonly #message: Uint8Array;
  at = 0;

  constructor(message: Uint8Array) {
    this.#message = message;
  }

  varint(): number {
    let value = 0;
    for (let shift = 0; this.at < this.#message.length && shift < 63; shift += 7) {
      const byte = this.#message[this.at++] ?? 0;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    return Number.NaN;
  }

  /** Bytes of the field whose tag was just read, NaN for a wire type that nobody uses. */
  fieldBytes(tag: number): number {
    switch (tag & 7) {
      case 0:
        return this.varint() * 0;
      case 1:
        return 8;
      case 2:
        return this.varint();
      case 5:
        return 4;
      default:
        return Number.NaN;
    }
  }
}

/** Hands the bytes of every `frames` field on; other fields are skipped. False when it is not protobuf. */
export function decodeMessage(message: Uint8Array, onBytes: (bytes: Uint8Array) => void): boolean {
  const cursor = new Cursor(message);
  while (cursor.at < message.length) {
    const tag = cursor.varint();
    const size = cursor.fieldBytes(tag);
    if (!(tag >= 8 && size <= message.length - cursor.at)) return false;
    if (tag === TAG && size > 0) onBytes(message.subarray(cursor.at, cursor.at + size));
    cursor.at += size;
  }
  return true;
}

/** Takes gRPC's byte stream, cut anywhere. A message that is whole in one chunk is not copied, any other once. */
export class CallReader {
  readonly #onBytes: (bytes: Uint8Array) => void;
  #held: Buffer[] = [];
  #heldBytes = 0;
  #wanted = PREFIX_BYTES;

  constructor(onBytes: (bytes: Uint8Array) => void) {
    this.#onBytes = onBytes;
  }

  /** False when these are no messages of ours, compressed ones included: nothing is read after that. */
  feed(chunk: Buffer): boolean {
    this.#held.push(chunk);
    this.#heldBytes += chunk.length;
    if (this.#heldBytes < this.#wanted) return true;
    const bytes = this.#held.length === 1 ? chunk : Buffer.concat(this.#held, this.#heldBytes);
    const at = this.#read(bytes);
    if (at < 0) return false;
    const rest = bytes.subarray(at);
    this.#held = rest.length > 0 ? [rest] : [];
    this.#heldBytes = rest.length;
    return true;
  }

  /** Where the first message begins that is not whole yet; negative when it is none. */
  #read(bytes: Buffer): number {
    let at = 0;
    for (;;) {
      this.#wanted = PREFIX_BYTES;
      if (bytes.length - at < this.#wanted) return at;
      const length = bytes.readUInt32BE(at + 1);
      if (bytes[at] !== 0 || length > MAX_RECEIVED_BYTES) return -1;
      this.#wanted += length;
      if (bytes.length - at < this.#wanted) return at;
      const end = at + this.#wanted;
      if (!decodeMessage(bytes.subarray(at + PREFIX_BYTES, end), this.#onBytes)) return -1;
      at = end;
    }
  }
}
