/**
 * Things by a number that comes and goes all the time, such as the streams of a link. Use it for what changes with every
 * request, and a Map for the rest: a Map that is added to and deleted from replaces its table every few changes, and in V8
 * each old table keeps the next one alive, so that once one of them is old no request is garbage before a full collection.
 */

const SMALLEST = 8;
/** Not worth giving back, and what comes in bursts would grow and shrink the table with each of them. */
const KEPT = 256;
const FREE = 0;

/** Keys are whole numbers from 1 to 2³¹ − 1. Open addressing; deleting closes the gap, so nothing of what was deleted stays. */
export class IdTable<Value> {
  #keys = new Int32Array(0);
  #values: (Value | undefined)[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(id: number): Value | undefined {
    return this.#size === 0 ? undefined : this.#values[this.#find(id)];
  }

  set(id: number, value: Value): void {
    if (this.#size * 2 >= this.#keys.length) this.#resize(Math.max(SMALLEST, this.#keys.length * 2));
    const at = this.#find(id);
    if (this.#keys[at] === FREE) this.#size++;
    this.#keys[at] = id;
    this.#values[at] = value;
  }

  delete(id: number): boolean {
    if (this.#size === 0) return false;
    const at = this.#find(id);
    if (this.#keys[at] === FREE) return false;
    this.#size--;
    this.#close(at);
    if (this.#keys.length > KEPT && this.#size * 8 < this.#keys.length) this.#resize(this.#keys.length / 2);
    return true;
  }

  /** In no order; not to be changed meanwhile. */
  *values(): Generator<Value> {
    for (const value of this.#values) if (value !== undefined) yield value;
  }

  /** Where it is, or where it would be put. */
  #find(id: number): number {
    const mask = this.#keys.length - 1;
    let at = home(id, mask);
    for (let key = this.#keys[at]; key !== id && key !== FREE; key = this.#keys[at]) at = (at + 1) & mask;
    return at;
  }

  /** Moves up what stands behind the gap because its own place was taken. */
  #close(gap: number): void {
    const mask = this.#keys.length - 1;
    let free = gap;
    for (let at = (gap + 1) & mask; this.#keys[at] !== FREE; at = (at + 1) & mask) {
      const id = this.#keys[at] ?? FREE;
      if (((at - home(id, mask)) & mask) < ((at - free) & mask)) continue;
      this.#keys[free] = id;
      this.#values[free] = this.#values[at];
      free = at;
    }
    this.#keys[free] = FREE;
    this.#values[free] = undefined;
  }

  #resize(length: number): void {
    const keys = this.#keys;
    const values = this.#values;
    this.#keys = new Int32Array(length);
    this.#values = new Array<Value | undefined>(length).fill(undefined);
    for (const [from, id] of keys.entries()) {
      if (id === FREE) continue;
      const to = this.#find(id);
      this.#keys[to] = id;
      this.#values[to] = values[from];
    }
  }
}

/** Spreads ids that follow each other evenly (Knuth's multiplicative hashing), whatever part of them is still there. */
const home = (id: number, mask: number): number => (Math.imul(id, 0x9e3779b1) >>> 8) & mask;
