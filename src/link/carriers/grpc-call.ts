/**
 * The carrier of an agent link: one bidirectional gRPC call whose messages are `bytes frames = 1`, written and read by hand.
 * Messages are at most 128 KiB; where a frame begins or ends in them does not matter. At most two are in gRPC's hands,
 * counted by write callbacks, because its `write() === false` counts messages and not bytes.
 */
import { type ClientDuplexStream, type ServerDuplexStream, status } from "@grpc/grpc-js";
import type { Carrier } from "../link.ts";

const MAX_MESSAGE_BYTES = 128 * 1024;
const TAG = 0x0a; // field 1, length-delimited
const MAX_PREFIX_BYTES = 4;
const MAX_BATCH_BYTES = MAX_MESSAGE_BYTES - MAX_PREFIX_BYTES;
const MAX_BATCHES = 2;

/** Codec for both sides of the call's method: buffers as they are. */
export const identity = (bytes: Buffer): Buffer => bytes;

const FLOW_CONTROL_WINDOW = 8 * 1024 * 1024;
const GRPC_LIMIT = 4 * 1024 * 1024;

/** Options for the client and the server under such calls; the server's windows are set by `server-window.ts`. */
export const GRPC_LIMITS = {
  "grpc.max_receive_message_length": GRPC_LIMIT,
  "grpc.max_send_message_length": GRPC_LIMIT,
} as const;
export const GRPC_CLIENT_OPTIONS = { ...GRPC_LIMITS, "grpc-node.flow_control_window": FLOW_CONTROL_WINDOW } as const;

/** One message with `bytes` bytes of frames. */
export function encodeMessage(parts: readonly Uint8Array[], bytes: number): Buffer {
  const message = Buffer.allocUnsafe(1 + varintBytes(bytes) + bytes);
  let at = writeVarint(message, bytes);
  for (const part of parts) {
    message.set(part, at);
    at += part.length;
  }
  return message;
}

const varintBytes = (value: number): number => (value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x200000 ? 3 : 4);

function writeVarint(message: Buffer, value: number): number {
  message[0] = TAG;
  let at = 1;
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

type Call = ClientDuplexStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>;

class CallCarrier implements Carrier {
  readonly maxBatchBytes = MAX_BATCH_BYTES;
  readonly maxBatches = MAX_BATCHES;
  onData: (chunk: Uint8Array) => void = () => {};
  onClosed: (reason: string) => void = () => {};
  readonly #call: Call;
  readonly #abort: () => void;
  #closed = false;
  #ending = false;
  readonly #receive = (bytes: Uint8Array) => this.onData(bytes);

  constructor(call: Call, abort: () => void) {
    this.#call = call;
    this.#abort = abort;
    call.on("data", (message: Buffer) => {
      if (!decodeMessage(message, this.#receive)) this.destroy();
    });
    call.on("end", () => this.end());
  }

  closed(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.onClosed(reason);
  }

  write(batch: readonly Uint8Array[], bytes: number, taken: () => void): void {
    if (this.#closed || this.#ending) return;
    if (bytes <= MAX_BATCH_BYTES) {
      this.#call.write(encodeMessage(batch, bytes), taken);
      return;
    }
    const whole = Buffer.concat(batch, bytes); // a single frame larger than a message: CTL only
    for (let at = 0; at < bytes; at += MAX_BATCH_BYTES) {
      const part = whole.subarray(at, at + MAX_BATCH_BYTES);
      const message = encodeMessage([part], part.length);
      if (at + MAX_BATCH_BYTES >= bytes) this.#call.write(message, taken);
      else this.#call.write(message);
    }
  }

  end(): void {
    if (this.#closed || this.#ending) return;
    this.#ending = true;
    this.#call.end();
  }

  destroy(): void {
    if (this.#closed) return;
    this.#ending = true;
    this.#abort();
    this.closed("the call was ended here");
  }
}

/**
 * The server's end of the call. gRPC has no way to end a call whose other side takes nothing more; `abort` may do so by
 * destroying the socket under it. Without it the call ends with a status as soon as what was written could leave.
 */
export function serverCallCarrier(call: ServerDuplexStream<Buffer, Buffer>, abort?: () => void): Carrier {
  const end = () => call.emit("error", { code: status.UNAVAILABLE, details: "the link was ended" });
  const carrier = new CallCarrier(call, abort ?? end);
  call.on("error", () => {});
  call.once("cancelled", () => carrier.closed("the call was ended by the agent or its connection was lost"));
  call.once("close", () => carrier.closed("the call was ended"));
  return carrier;
}

/** The client's end. */
export function clientCallCarrier(call: ClientDuplexStream<Buffer, Buffer>): Carrier {
  const carrier = new CallCarrier(call, () => call.cancel());
  call.on("error", () => {}); // the status says it
  call.once("status", ({ code, details }) => {
    carrier.closed(code === status.OK ? "the call was ended" : `${status[code]}: ${details}`);
  });
  return carrier;
}
