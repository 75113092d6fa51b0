/** What one end of a link grants the other: intervals and limits, each a setting or a default of the protocol. */
import type { Millis } from "./actor.ts";
import { MIB, STREAM_FLOOR } from "./credit.ts";

export type LinkRules = {
  readonly helloWithin: Millis;
  /** PING after this long without a frame while a stream is open (peer links: always). */
  readonly pingAfter: Millis;
  /** The same while nothing is open. */
  readonly idlePingAfter: Millis;
  /** No frame for this long after a PING: the link is lost. */
  readonly pongWithin: Millis;
  /** Streams at once, both sides' together. */
  readonly maxStreams: number;
  /** Our first stream id, so that tests reach the last. */
  readonly firstStream: number;
  /** OPENs and RESETs the other side may send in a second; above, its OPENs are refused. */
  readonly opensPerSecond: number;
  /** Frames it may send in a second that no credit bounds, beside one for each half KiB of ours; above, the link is closed. */
  readonly controlsPerSecond: number;
  /** Largest CTL it may send; 0 where there is none. */
  readonly maxCtlBytes: number;
  /** Credit each stream towards us starts with; the other side learns it by our HELLO. */
  readonly streamWindow: number;
};

export const LINK_RULES: LinkRules = {
  helloWithin: 5_000,
  pingAfter: 1_000,
  idlePingAfter: 20_000,
  pongWithin: 3_000,
  maxStreams: 10_000,
  firstStream: 1,
  opensPerSecond: 20_000,
  controlsPerSecond: 20_000,
  maxCtlBytes: MIB,
  streamWindow: STREAM_FLOOR,
};
