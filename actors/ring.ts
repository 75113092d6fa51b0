/**
 * Which nodes are home for an agent. A pure function of the *set* of names: two nodes with the same members
 * compute the same table, in any order they heard of them; a name that comes or goes moves only its own slots.
 */
import HashRing from "hashring";
import { hashText, mix, mixId } from "./hash.ts";
import type { AgentId, NodeName } from "./ids.ts";

export const SLOTS = 4096;

/** How many nodes keep each entry. */
export type Homes = 1 | 2 | 3 | "all";

export type Ring = {
  /** Sorted. */
  readonly names: readonly NodeName[];
  /** Homes of a slot; less than asked for when there are fewer nodes. */
  readonly width: number;
  /** `width` indices into `names` for each slot, first home first. */
  readonly table: Uint16Array;
};

/** Not 40: at that number hashring takes the path that drops points for some sizes. */
const VNODES = 100;

/** Before names, so that none reads as a number or as a property of Object. */
const PREFIX = "n-";

const bytesOf = (h: number) => [h & 255, (h >>> 8) & 255, (h >>> 16) & 255, h >>> 24];

/** Sixteen bytes, as hashring expects of md5: four points. */
function points(key: string): number[] {
  const h = hashText(key, 0x6b617301);
  return [
    ...bytesOf(h),
    ...bytesOf(mix(h + 0x3c6ef372)),
    ...bytesOf(mix(h + 0x78dde6e4)),
    ...bytesOf(mix(h + 0xb54cda56)),
  ];
}

export function buildRing(members: readonly NodeName[], homes: Homes): Ring {
  const names = [...new Set(members)].sort();
  const width = Math.min(names.length, homes === "all" ? names.length : homes);
  const table = new Uint16Array(SLOTS * width);
  if (width === 0) return { names, width, table };
  const ring = new HashRing(Object.fromEntries(names.map((name) => [PREFIX + name, { vnodes: VNODES }])), points);
  const indexOf = new Map(names.map((name, index) => [PREFIX + name, index]));
  for (let slot = 0; slot < SLOTS; slot++) {
    const chosen = ring.range(`slot-${slot}`, width, true);
    for (let i = 0; i < width; i++) table[slot * width + i] = indexOf.get(chosen[i] ?? "") ?? 0;
  }
  return { names, width, table };
}

export const slotOf = (agent: AgentId): number => mixId(agent) % SLOTS;

/** The `index`th home of a slot, from 0; undefined beyond the last. */
export function homeAt(ring: Ring, slot: number, index: number): NodeName | undefined {
  if (index >= ring.width) return undefined;
  return ring.names[ring.table[slot * ring.width + index] ?? 0];
}

export function homesOf(ring: Ring, slot: number): NodeName[] {
  const homes: NodeName[] = [];
  for (let i = 0; i < ring.width; i++) homes.push(homeAt(ring, slot, i) as NodeName);
  return homes;
}

/** A set of slots, 512 bytes. */
export type SlotSet = Uint8Array;

export const noSlots = (): SlotSet => new Uint8Array(SLOTS / 8);
export const hasSlot = (slots: SlotSet, slot: number): boolean => ((slots[slot >> 3] ?? 0) & (1 << (slot & 7))) !== 0;
export const isSuperset = (big: SlotSet, small: SlotSet): boolean =>
  small.every((byte, i) => (byte & ~(big[i] ?? 0)) === 0);
export const sameSlots = (a: SlotSet, b: SlotSet): boolean => a.every((byte, i) => byte === b[i]);

/** Every node's slots, in one pass over the table. */
export function slotsByName(ring: Ring): Map<NodeName, SlotSet> {
  const sets = ring.names.map(noSlots);
  for (let i = 0; i < ring.table.length; i++) {
    const slot = Math.floor(i / ring.width);
    const set = sets[ring.table[i] ?? 0];
    if (set) set[slot >> 3] = (set[slot >> 3] ?? 0) | (1 << (slot & 7));
  }
  return new Map(ring.names.map((name, i) => [name, sets[i] ?? noSlots()]));
}
