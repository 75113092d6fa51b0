/**
 * Tells one home about this holder's connections: a snapshot, then deltas, each acknowledged. What is not acknowledged
 * is told again as a snapshot; a digest now and then finds what both sides believe done but is not.
 * An acknowledgement never covers what was not sent in this epoch. `entries` and `waiting` are changed in place.
 */
import type { Actor, Millis, Schedule, Step } from "./actor.ts";
import { backoff } from "./backoff.ts";
import { type ChannelMessage, type Entry, entryHash, type Position } from "./channel.ts";
import { fraction, nextSeed } from "./hash.ts";
import type { ConnectionId } from "./ids.ts";
import { noSlots, type SlotSet } from "./ring.ts";

export type RegistrarSettings = {
  readonly batch: Millis;
  readonly retry: Millis;
  readonly retryMost: Millis;
  readonly digest: Millis;
  readonly partBytes: number;
};

export type Registrar = {
  readonly seq: number;
  readonly acked: number;
  readonly seed: number;
  readonly slots: SlotSet;
  readonly entries: Map<ConnectionId, Entry>;
  /** xor of the entries' hashes. */
  readonly hash: number;
  /** Changes since the last message: connections put or removed. */
  readonly changed: Set<ConnectionId>;
  /** The next message must be a snapshot. */
  readonly dirty: boolean;
  readonly retries: number;
  /** Connections first told at a seq that is not acknowledged yet, in order of seq. */
  readonly waiting: { readonly seq: number; readonly connection: ConnectionId }[];
};

export type RegistrarMessage =
  /** Everything anew: the home got other slots. */
  | { readonly type: "assign"; readonly slots: SlotSet; readonly entries: readonly Entry[] }
  | { readonly type: "put"; readonly entry: Entry }
  | { readonly type: "remove"; readonly connection: ConnectionId }
  | { readonly type: "acked"; readonly position: Position }
  /** NEEDSNAP. */
  | { readonly type: "wanted" }
  | { readonly type: "flush" }
  | { readonly type: "retry" }
  | { readonly type: "digest" };

export type RegistrarEffect =
  | { readonly type: "send"; readonly message: ChannelMessage }
  /** The home knows this connection now. */
  | { readonly type: "registered"; readonly connection: ConnectionId };

type Out = RegistrarEffect | Schedule<RegistrarMessage>;
type RegistrarStep = Step<Registrar, Out>;

/** More changes than this between two messages are told as a snapshot. */
const OVERFLOW = 1_000;

export function createRegistrar(
  settings: RegistrarSettings,
  epoch: number,
  seed: number,
): Actor<Registrar, RegistrarMessage, RegistrarEffect> {
  return {
    get initial(): Registrar {
      const empty = { seq: 0, acked: 0, seed, slots: noSlots(), hash: 0, dirty: true, retries: 0 };
      return { ...empty, entries: new Map(), changed: new Set(), waiting: [] };
    },
    receive(state, message, now) {
      switch (message.type) {
        case "assign":
          return assign(state, message.slots, message.entries, settings, now);
        case "put":
          return put(state, message.entry, settings, now);
        case "remove":
          return remove(state, message.connection, settings, now);
        case "acked":
          return acked(state, message.position, epoch);
        case "wanted":
          return flush({ ...state, dirty: true }, epoch, settings, now);
        case "flush":
          return state.dirty || state.changed.size > 0 ? flush(state, epoch, settings, now) : [state, []];
        case "retry":
          return state.acked >= state.seq
            ? [state, []]
            : flush({ ...state, dirty: true, retries: state.retries + 1 }, epoch, settings, now);
        case "digest":
          return digest(state, epoch, settings, now);
      }
    },
  };
}

function assign(
  state: Registrar,
  slots: SlotSet,
  entries: readonly Entry[],
  settings: RegistrarSettings,
  now: Millis,
): RegistrarStep {
  state.entries.clear();
  state.changed.clear();
  let hash = 0;
  for (const entry of entries) {
    state.entries.set(entry.connection, entry);
    state.changed.add(entry.connection);
    hash ^= entryHash(entry);
  }
  const first: Out[] = state.seq === 0 ? [digestAt(state.seed, settings, now)] : [];
  return [{ ...state, slots, hash, dirty: true }, [flushSoon(settings, now), ...first]];
}

const flushSoon = (settings: RegistrarSettings, now: Millis): Out => ({
  type: "schedule",
  key: "flush",
  at: now + settings.batch,
  message: { type: "flush" },
});

const digestAt = (seed: number, settings: RegistrarSettings, now: Millis): Out => ({
  type: "schedule",
  key: "digest",
  at: now + settings.digest * (0.8 + 0.4 * fraction(seed)),
  message: { type: "digest" },
});

function put(state: Registrar, entry: Entry, settings: RegistrarSettings, now: Millis): RegistrarStep {
  const old = state.entries.get(entry.connection);
  state.entries.set(entry.connection, entry);
  return changed(state, entry.connection, (old ? entryHash(old) : 0) ^ entryHash(entry), settings, now);
}

function remove(state: Registrar, connection: ConnectionId, settings: RegistrarSettings, now: Millis): RegistrarStep {
  const old = state.entries.get(connection);
  if (!old) return [state, []];
  state.entries.delete(connection);
  return changed(state, connection, entryHash(old), settings, now);
}

function changed(
  state: Registrar,
  connection: ConnectionId,
  hashChange: number,
  settings: RegistrarSettings,
  now: Millis,
): RegistrarStep {
  const idle = state.changed.size === 0;
  state.changed.add(connection);
  const hash = state.hash ^ hashChange;
  const dirty = state.dirty || state.changed.size > OVERFLOW;
  return [{ ...state, hash, dirty }, idle ? [flushSoon(settings, now)] : []];
}

function flush(state: Registrar, epoch: number, settings: RegistrarSettings, now: Millis): RegistrarStep {
  const seq = state.seq + 1;
  const seed = nextSeed(state.seed);
  const messages = state.dirty ? snaps(state, { epoch, seq }, settings) : [delta(state, { epoch, seq })];
  for (const connection of state.changed) {
    if (state.entries.has(connection)) state.waiting.push({ seq, connection });
  }
  state.changed.clear();
  const outstanding = state.acked < state.seq && state.retries === 0 && !state.dirty;
  const delay = backoff(state.retries, settings.retry, settings.retryMost, 1 - fraction(seed) / 4);
  const retry: Out = { type: "schedule", key: "retry", at: now + delay, message: { type: "retry" } };
  return [
    { ...state, seq, seed, dirty: false },
    [...messages.map((message): Out => ({ type: "send", message })), ...(outstanding ? [] : [retry])],
  ];
}

function delta(state: Registrar, position: Position): ChannelMessage {
  const put: Entry[] = [];
  const removed: ConnectionId[] = [];
  for (const connection of state.changed) {
    const entry = state.entries.get(connection);
    if (entry) put.push(entry);
    else removed.push(connection);
  }
  return { type: "delta", ...position, put, removed };
}

function snaps(state: Registrar, position: Position, settings: RegistrarSettings): ChannelMessage[] {
  const groups: Entry[][] = [[]];
  let bytes = 0;
  for (const entry of state.entries.values()) {
    bytes += 40 + entry.instance.length + entry.process.length + 5 * entry.lost.length;
    if (bytes > settings.partBytes) {
      groups.push([]);
      bytes = 0;
    }
    groups.at(-1)?.push(entry);
  }
  return groups.map((entries, part) => ({
    type: "snap",
    ...position,
    part,
    parts: groups.length,
    slots: state.slots,
    entries,
  }));
}

function acked(state: Registrar, position: Position, epoch: number): RegistrarStep {
  if (position.epoch !== epoch || position.seq > state.seq || position.seq <= state.acked) return [state, []];
  let known = 0;
  while ((state.waiting[known]?.seq ?? Number.POSITIVE_INFINITY) <= position.seq) known++;
  const registered = state.waiting.splice(0, known);
  return [
    { ...state, acked: position.seq, retries: 0 },
    registered.map(({ connection }) => ({ type: "registered", connection })),
  ];
}

function digest(state: Registrar, epoch: number, settings: RegistrarSettings, now: Millis): RegistrarStep {
  const seed = nextSeed(state.seed);
  const again = digestAt(seed, settings, now);
  // What is still on its way is the retry's business.
  if (state.acked < state.seq || state.dirty || state.changed.size > 0) return [{ ...state, seed }, [again]];
  const message: ChannelMessage = {
    type: "digest",
    epoch,
    seq: state.seq,
    count: state.entries.size,
    hash: state.hash >>> 0,
  };
  return [{ ...state, seed }, [{ type: "send", message }, again]];
}
