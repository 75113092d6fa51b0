/**
 * What a holder and a home say to each other about the holder's connections: one sequenced channel per pair.
 * (epoch, seq) never goes back: a new channel to the same home takes a higher epoch.
 */
import { hashText, mix, mixId } from "./hash.ts";
import type { AgentId, ConnectionId } from "./ids.ts";
import type { SlotSet } from "./ring.ts";

/** One connection as the index knows it; written by its holder only. */
export type Entry = {
  readonly connection: ConnectionId;
  readonly agent: AgentId;
  readonly instance: string;
  readonly process: string;
  readonly link: number;
  /** Links of the same process that this one replaced. */
  readonly lost: readonly number[];
  /** Wall clock of the holder when it connected: orders processes of one instance. */
  readonly since: number;
  readonly draining: boolean;
};

export type Position = { readonly epoch: number; readonly seq: number };

export type Snap = Position & {
  readonly type: "snap";
  readonly part: number;
  readonly parts: number;
  readonly slots: SlotSet;
  readonly entries: readonly Entry[];
};
export type Delta = Position & {
  readonly type: "delta";
  readonly put: readonly Entry[];
  readonly removed: readonly ConnectionId[];
};
export type Digest = Position & { readonly type: "digest"; readonly count: number; readonly hash: number };

export type ChannelMessage = Snap | Delta | Digest;

export const isAfter = (a: Position, b: Position): boolean =>
  a.epoch > b.epoch || (a.epoch === b.epoch && a.seq > b.seq);

/** Of one entry; a channel's content hash is the xor over its entries, whatever their order. */
export const entryHash = (entry: Entry): number =>
  mix(
    mixId(entry.agent) ^
      mix(entry.connection) ^
      hashText(entry.process, entry.link) ^
      hashText(entry.instance, entry.draining ? 2 : 1),
  );

/**
 * Does `newer` replace `older`? Exactly the links it names as lost, and every link of an older process of its instance.
 * Any other link lives on beside it.
 */
export function supersedes(newer: Entry, older: Entry): boolean {
  if (newer.agent !== older.agent || newer.instance !== older.instance) return false;
  if (newer.process === older.process) return newer.lost.includes(older.link);
  return newer.since > older.since || (newer.since === older.since && newer.process > older.process);
}
