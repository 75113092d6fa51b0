/**
 * The binary codec of frames: type u8, flags u8, length u24, stream id u32 (big endian), payload.
 * The reader takes chunks cut anywhere and hands payloads on as views of them: only a header or a payload other than
 * DATA that is cut is gathered, never more than one frame. The writer packs small payloads next to their headers.
 */
import { FAILURE_CODES, type FailureCode } from "../../actors/failure.ts";
import {
  FLAG_UNPROCESSED,
  FRAME,
  type FrameReset,
  type FrameSink,
  HEADER_BYTES,
  MAX_REASON_BYTES,
} from "../../actors/frame.ts";

/** Who is told what a reader found. */
export interface FrameTarget {
  /** Why no such frame may come now; null when it may. */
  fault(type: number, flags: number, id: number, length: number): string | null;
  frame(type: number, flags: number, id: number, payload: Uint8Array): void;
  number(type: number, id: number, value: number): void;
  reset(id: number, reset: FrameReset): void;
  /** Nothing that follows can be read. */
  broken(what: string): void;
}

const NUMBERS = new Set<number>([FRAME.credit, FRAME.ping, FRAME.pong, FRAME.close]);
const NOTHING = new Uint8Array(0);

const readU32 = (b: Uint8Array, at: number): number =>
  (((b[at] ?? 0) << 24) | ((b[at + 1] ?? 0) << 16) | ((b[at + 2] ?? 0) << 8) | (b[at + 3] ?? 0)) >>> 0;

export class FrameReader {
  readonly #target: FrameTarget;
  readonly #header = new Uint8Array(HEADER_BYTES);
  #have = 0;
  #type = 0;
  #flags = 0;
  #id = 0;
  /** Payload bytes still to come of the frame being read; -1 between frames. */
  #missing = -1;
  #gathered: Uint8Array | null = null;
  #gatheredBytes = 0;
  #stopped = false;

  constructor(target: FrameTarget) {
    this.#target = target;
  }

  /** Bytes kept until the rest of their frame comes. */
  get partial(): number {
    return this.#have + (this.#gathered?.length ?? 0);
  }

  /** Reads nothing more, and frees what was gathered. */
  stop(): void {
    this.#stopped = true;
    this.#gathered = null;
    this.#have = 0;
  }

  feed(chunk: Uint8Array): void {
    let at = 0;
    while (!this.#stopped && (at < chunk.length || this.#missing === 0)) {
      at = this.#missing < 0 ? this.#readHeader(chunk, at) : this.#readPayload(chunk, at);
    }
  }

  #readHeader(chunk: Uint8Array, at: number): number {
    if (this.#have === 0 && chunk.length - at >= HEADER_BYTES) {
      this.#begin(chunk, at);
      return at + HEADER_BYTES;
    }
    const size = Math.min(HEADER_BYTES - this.#have, chunk.length - at);
    this.#header.set(chunk.subarray(at, at + size), this.#have);
    this.#have += size;
    if (this.#have === HEADER_BYTES) {
      this.#have = 0;
      this.#begin(this.#header, 0);
    }
    return at + size;
  }

  #begin(b: Uint8Array, at: number): void {
    this.#type = b[at] ?? 0;
    this.#flags = b[at + 1] ?? 0;
    this.#missing = readU32(b, at + 1) & 0xffffff;
    this.#id = readU32(b, at + 5);
    const numeric = NUMBERS.has(this.#type) && this.#missing !== 4;
    const fault = numeric
      ? `a frame of type ${this.#type} with ${this.#missing} bytes, not 4`
      : this.#target.fault(this.#type, this.#flags, this.#id, this.#missing);
    if (fault === null) return;
    this.stop();
    this.#target.broken(fault);
  }

  #readPayload(chunk: Uint8Array, at: number): number {
    const size = Math.min(this.#missing, chunk.length - at);
    const whole = size === this.#missing;
    if (this.#type === FRAME.data) {
      this.#missing = whole ? -1 : this.#missing - size;
      const flags = whole ? this.#flags : 0;
      this.#target.frame(FRAME.data, flags, this.#id, chunk.subarray(at, at + size));
    } else if (whole && !this.#gathered) {
      this.#missing = -1;
      this.#deliver(size === 0 ? NOTHING : chunk.subarray(at, at + size));
    } else {
      this.#gather(chunk.subarray(at, at + size));
    }
    return at + size;
  }

  #gather(part: Uint8Array): void {
    this.#gathered ??= new Uint8Array(this.#missing);
    this.#gathered.set(part, this.#gatheredBytes);
    this.#gatheredBytes += part.length;
    this.#missing -= part.length;
    if (this.#missing > 0) return;
    const payload = this.#gathered;
    this.#gathered = null;
    this.#gatheredBytes = 0;
    this.#missing = -1;
    this.#deliver(payload);
  }

  #deliver(payload: Uint8Array): void {
    const type = this.#type;
    if (NUMBERS.has(type)) this.#target.number(type, this.#id, readU32(payload, 0));
    else if (type === FRAME.reset) this.#target.reset(this.#id, decodeReset(this.#flags, payload));
    else this.#target.frame(type, this.#flags, this.#id, payload);
  }
}

function decodeReset(flags: number, payload: Uint8Array): FrameReset {
  const code: FailureCode = FAILURE_CODES[payload[0] ?? -1] ?? "internal";
  const reason = Buffer.from(payload.buffer, payload.byteOffset, payload.length).toString("utf8", 1);
  return { failure: { code, reason }, unprocessed: (flags & FLAG_UNPROCESSED) !== 0 };
}

/** Cut to 1 KiB, between characters. */
function encodeReset({ failure }: FrameReset): Uint8Array {
  let reason = Buffer.from(failure.reason);
  if (reason.length > MAX_REASON_BYTES) {
    let end = MAX_REASON_BYTES;
    while (end > 0 && ((reason[end] ?? 0) & 0xc0) === 0x80) end--;
    reason = reason.subarray(0, end);
  }
  const payload = Buffer.allocUnsafe(1 + reason.length);
  payload[0] = Math.max(0, FAILURE_CODES.indexOf(failure.code));
  payload.set(reason, 1);
  return payload;
}

const SLAB_BYTES = 32 * 1024;
/**
 * Where headers and small payloads of all links are put, one after the other: a link of its own slab would fill it with
 * nothing but PINGs in time, which is the most of what an idle agent would take.
 */
const pool = { slab: NOTHING, end: 0 };

/** Payloads up to this size are copied next to their header; larger ones go as they are. */
const COPY_BYTES = 1024;

export type Batch = { readonly parts: Uint8Array[]; readonly bytes: number };

export class FrameWriter implements FrameSink {
  /** What runs on in the slab since the last piece was cut off. */
  #slab = NOTHING;
  #start = 0;
  #end = 0;
  #parts: Uint8Array[] = [];
  #bytes = 0;

  /** What was written since the last call. */
  take(): Batch {
    this.#cut();
    this.#slab = NOTHING;
    const batch = { parts: this.#parts, bytes: this.#bytes };
    this.#parts = [];
    this.#bytes = 0;
    return batch;
  }

  frame(type: number, flags: number, id: number, payload: Uint8Array): number {
    const { length } = payload;
    const copied = length <= COPY_BYTES;
    this.#header(type, flags, id, length, copied ? length : 0);
    if (copied) {
      if (length > 0) this.#slab.set(payload, this.#end);
      this.#end += length;
    } else {
      this.#cut();
      this.#parts.push(payload);
    }
    this.#bytes += HEADER_BYTES + length;
    return HEADER_BYTES + length;
  }

  number(type: number, id: number, value: number): number {
    this.#header(type, 0, id, 4, 4);
    this.#u32(value);
    this.#bytes += HEADER_BYTES + 4;
    return HEADER_BYTES + 4;
  }

  reset(id: number, reset: FrameReset): number {
    return this.frame(FRAME.reset, reset.unprocessed ? FLAG_UNPROCESSED : 0, id, encodeReset(reset));
  }

  #header(type: number, flags: number, id: number, length: number, room: number): void {
    this.#reserve(HEADER_BYTES + room);
    this.#slab[this.#end] = type;
    this.#slab[this.#end + 1] = flags;
    this.#slab[this.#end + 2] = length >>> 16;
    this.#slab[this.#end + 3] = length >>> 8;
    this.#slab[this.#end + 4] = length;
    this.#end += 5;
    this.#u32(id);
  }

  #u32(value: number): void {
    this.#slab[this.#end] = value >>> 24;
    this.#slab[this.#end + 1] = value >>> 16;
    this.#slab[this.#end + 2] = value >>> 8;
    this.#slab[this.#end + 3] = value;
    this.#end += 4;
  }

  /** Room for so many bytes at `#end`: behind what this writer wrote last, unless another one wrote there or it is full. */
  #reserve(bytes: number): void {
    const fits = pool.end + bytes <= pool.slab.length;
    if (!fits || pool.slab !== this.#slab || pool.end !== this.#end) {
      this.#cut();
      if (!fits) {
        pool.slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
        pool.end = 0;
      }
      this.#slab = pool.slab;
      this.#start = pool.end;
      this.#end = pool.end;
    }
    pool.end += bytes;
  }

  #cut(): void {
    if (this.#end > this.#start) this.#parts.push(this.#slab.subarray(this.#start, this.#end));
    this.#start = this.#end;
  }
}
