/**
 * The frames of a link: their types, flags and limits, and the table of their legal orders within a stream.
 * Both ends, the tests and the fuzzer read this one table. Numbers are on the wire: append only, never reuse.
 */
import type { Failure } from "./failure.ts";

export const FRAME = {
  hello: 1,
  open: 2,
  accept: 3,
  head: 4,
  data: 5,
  trailer: 6,
  end: 7,
  stop: 8,
  reset: 9,
  credit: 10,
  ping: 11,
  pong: 12,
  drain: 13,
  close: 14,
  ctl: 15,
  ready: 16,
} as const;

/** On OPEN, HEAD, DATA, TRAILER: nothing more comes in this direction. */
export const FLAG_END = 1;
/** On RESET: proof that the stream (on stream 0: every stream of the link) was not looked at. */
export const FLAG_UNPROCESSED = 1;
/** On HELLO: the payload is the proof of the shared secret. */
export const FLAG_PROOF = 1;

export const HEADER_BYTES = 9;
export const MAX_DATA_BYTES = 32 * 1024;
export const MAX_REASON_BYTES = 1024;
/** The highest stream id; ids are never reused, so a link that comes near is replaced. */
export const MAX_STREAM_ID = 2 ** 31 - 1;

const KIB = 1024;

/** Largest payload per type, in bytes; -1 where there is no such type. Index is the type. */
export const MAX_PAYLOAD: readonly number[] = [
  -1,
  16 * KIB, // hello
  64 * KIB, // open
  0, // accept
  64 * KIB, // head
  MAX_DATA_BYTES, // data
  64 * KIB, // trailer
  0, // end
  0, // stop
  1 + MAX_REASON_BYTES, // reset
  4, // credit
  4, // ping
  4, // pong
  0, // drain
  4, // close
  KIB * KIB, // ctl
  0, // ready
];

/** Flags a type may carry. Index is the type. */
export const LEGAL_FLAGS: readonly number[] = [0, FLAG_PROOF, FLAG_END, 0, FLAG_END, FLAG_END, FLAG_END, 0, 0, 1];

export type FrameReset = { readonly failure: Failure; readonly unprocessed: boolean };

/** Where frames go: the codec on the way out, the automaton on the way in. Each returns the bytes it took, header included. */
export interface FrameSink {
  /** Types whose payload is bytes, or none. The payload belongs to the sink from then on. */
  frame(type: number, flags: number, id: number, payload: Uint8Array): number;
  /** CREDIT, PING, PONG, CLOSE: one unsigned 32-bit number. */
  number(type: number, id: number, value: number): number;
  reset(id: number, reset: FrameReset): number;
}

/** How far one direction of a stream has come. */
export const PHASE = { silent: 0, accepted: 1, body: 2, trailed: 3, ended: 4 } as const;
const PHASES = 5;
export const ILLEGAL = -1;

type Row = readonly [silent: number, accepted: number, body: number, trailed: number, ended: number];
const NEVER: Row = [ILLEGAL, ILLEGAL, ILLEGAL, ILLEGAL, ILLEGAL];
const ALWAYS: Row = [0, 1, 2, 3, 4];

/** Phase after a frame from the side that opened the stream; it starts in `body`, by its OPEN. */
const OPENER: readonly (readonly [type: number, row: Row])[] = [
  [FRAME.data, [ILLEGAL, ILLEGAL, PHASE.body, ILLEGAL, ILLEGAL]],
  [FRAME.trailer, [ILLEGAL, ILLEGAL, PHASE.trailed, ILLEGAL, ILLEGAL]],
  [FRAME.end, [ILLEGAL, ILLEGAL, PHASE.ended, PHASE.ended, ILLEGAL]],
  [FRAME.stop, ALWAYS],
  [FRAME.credit, ALWAYS],
];

/** The same from the side that executes it; it starts `silent`. A TRAILER needs no HEAD: gRPC may fail at once. */
const EXECUTOR: readonly (readonly [type: number, row: Row])[] = [
  [FRAME.accept, [PHASE.accepted, ILLEGAL, ILLEGAL, ILLEGAL, ILLEGAL]],
  [FRAME.head, [PHASE.body, PHASE.body, ILLEGAL, ILLEGAL, ILLEGAL]],
  [FRAME.data, [ILLEGAL, ILLEGAL, PHASE.body, ILLEGAL, ILLEGAL]],
  [FRAME.trailer, [PHASE.trailed, PHASE.trailed, PHASE.trailed, ILLEGAL, ILLEGAL]],
  [FRAME.end, [ILLEGAL, ILLEGAL, PHASE.ended, PHASE.ended, ILLEGAL]],
  [FRAME.stop, ALWAYS],
  [FRAME.credit, ALWAYS],
];

const flatten = (rows: readonly (readonly [number, Row])[]): Int8Array => {
  const table = new Int8Array(MAX_PAYLOAD.length * PHASES);
  for (let type = 0; type < MAX_PAYLOAD.length; type++) {
    const row = rows.find(([of]) => of === type)?.[1] ?? NEVER;
    table.set(row, type * PHASES);
  }
  return table;
};

const ORDER_OPENER = flatten(OPENER);
const ORDER_EXECUTOR = flatten(EXECUTOR);

/** The sender's phase after a frame of `type`, or ILLEGAL. */
export function nextPhase(fromOpener: boolean, type: number, phase: number): number {
  return (fromOpener ? ORDER_OPENER : ORDER_EXECUTOR)[type * PHASES + phase] ?? ILLEGAL;
}
