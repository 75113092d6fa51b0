/**
 * The two messages that carry bodies, written by hand: their bytes are copied once, and a header costs a seventh of what
 * the general encoder takes. Both are what the generated code reads; a property test says so.
 */
import { failed } from "../failed.ts";
import type { FlatHeaders } from "../link/messages.ts";

/** Largest message either way: what every gRPC client takes without being told. */
export const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;

const STATUS = 0x08;
const HEADERS = 0x12;
const BODY = 0x1a;
const TRAILERS = 0x22;
const NAME = 0x0a;
const VALUE = 0x12;
const DATA = 0x12;

const varintSize = (value: number): number => {
  let size = 1;
  for (let rest = value; rest > 127; rest = Math.floor(rest / 128)) size += 1;
  return size;
};

function putVarint(out: Buffer, at: number, value: number): number {
  let next = at;
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) {
    out[next] = (rest % 128) | 128;
    next += 1;
  }
  out[next] = rest;
  return next + 1;
}

const textSize = (text: string): number => {
  const bytes = Buffer.byteLength(text);
  return 1 + varintSize(bytes) + bytes;
};

const headerSize = (headers: FlatHeaders, at: number): number =>
  textSize(headers[at] ?? "") + textSize(headers[at + 1] ?? "");

function headersSize(headers: FlatHeaders): number {
  let size = 0;
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const header = headerSize(headers, i);
    size += 1 + varintSize(header) + header;
  }
  return size;
}

function putText(out: Buffer, at: number, tag: number, text: string): number {
  out[at] = tag;
  const start = putVarint(out, at + 1, Buffer.byteLength(text));
  return start + out.write(text, start);
}

function putHeaders(out: Buffer, at: number, tag: number, headers: FlatHeaders): number {
  let next = at;
  for (let i = 0; i + 1 < headers.length; i += 2) {
    out[next] = tag;
    next = putVarint(out, next + 1, headerSize(headers, i));
    next = putText(out, next, NAME, headers[i] ?? "");
    next = putText(out, next, VALUE, headers[i + 1] ?? "");
  }
  return next;
}

export type Reply = {
  readonly status: number;
  readonly headers: FlatHeaders;
  readonly body: readonly Uint8Array[];
  readonly bodyBytes: number;
  readonly trailers: FlatHeaders;
};

/** An HttpResponse. Throws `too-large`. */
export function encodeReply({ status, headers, body, bodyBytes, trailers }: Reply): Buffer {
  const bodySize = bodyBytes && 1 + varintSize(bodyBytes) + bodyBytes;
  const size = 1 + varintSize(status) + headersSize(headers) + bodySize + headersSize(trailers);
  if (size > MAX_MESSAGE_BYTES) throw tooLarge();
  const out = Buffer.allocUnsafe(size);
  out[0] = STATUS;
  let at = putHeaders(out, putVarint(out, 1, status), HEADERS, headers);
  if (bodyBytes > 0) {
    out[at] = BODY;
    at = putVarint(out, at + 1, bodyBytes);
    for (const piece of body) {
      out.set(piece, at);
      at += piece.length;
    }
  }
  putHeaders(out, at, TRAILERS, trailers);
  return out;
}

export const tooLarge = () =>
  failed("too-large", `the answer is above ${MAX_MESSAGE_BYTES} bytes: ask with the method Stream, which has no limit`);

/** A StreamResponse with data. */
export function encodeData(bytes: Uint8Array): Buffer {
  const out = Buffer.allocUnsafe(1 + varintSize(bytes.length) + bytes.length);
  out[0] = DATA;
  out.set(bytes, putVarint(out, 1, bytes.length));
  return out;
}
