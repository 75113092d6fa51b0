/**
 * Which messages of which sender were seen. Each (sender, count) is admitted at most once, in any order within a window of
 * 1,024 counts; nothing of an incarnation is admitted once a later incarnation of the same name was heard.
 */
import { incarnationOf, type NodeId, type NodeName, nameOf } from "../../actors/ids.ts";

const WINDOW = 1_024;
/** Names remembered; far more than a cluster has nodes. The one first heard is forgotten first. */
const MAX_SENDERS = 4_096;

type Seen = { readonly incarnation: number; highest: number; readonly bits: Uint32Array };

export type Admission = "fresh" | "replay" | "stale";

export class ReplayWindow {
  readonly #senders = new Map<NodeName, Seen>();

  admit(sender: NodeId, count: number): Admission {
    const incarnation = incarnationOf(sender);
    const known = this.#senders.get(nameOf(sender));
    if (known && known.incarnation > incarnation) return "stale";
    const seen = known?.incarnation === incarnation ? known : this.#remember(nameOf(sender), incarnation);
    if (count <= seen.highest - WINDOW) return "replay";
    if (count > seen.highest) advance(seen, count);
    else if (isSet(seen.bits, count)) return "replay";
    set(seen.bits, count);
    return "fresh";
  }

  #remember(name: NodeName, incarnation: number): Seen {
    const [first] = this.#senders.keys();
    if (first !== undefined && this.#senders.size >= MAX_SENDERS && !this.#senders.has(name))
      this.#senders.delete(first);
    const seen = { incarnation, highest: 0, bits: new Uint32Array(WINDOW / 32) };
    this.#senders.set(name, seen);
    return seen;
  }
}

const place = (count: number) => count % WINDOW;
const isSet = (bits: Uint32Array, count: number) => (((bits[place(count) >>> 5] ?? 0) >>> (count % 32)) & 1) === 1;

function set(bits: Uint32Array, count: number): void {
  const word = place(count) >>> 5;
  bits[word] = (bits[word] ?? 0) | (1 << (count % 32));
}

/** Moves the window's end to `count`; the places it passes belong to new counts from now on. */
function advance(seen: Seen, count: number): void {
  if (count - seen.highest >= WINDOW) seen.bits.fill(0);
  else {
    for (let passed = seen.highest + 1; passed <= count; passed++) {
      const word = place(passed) >>> 5;
      seen.bits[word] = (seen.bits[word] ?? 0) & ~(1 << (passed % 32));
    }
  }
  seen.highest = count;
}
