/** Things that come and go all the time, in no order; a Set would do, but for what `id-table.ts` says of V8's. */

/** Where a thing is kept; gives it up once. */
export interface Place {
  remove(): boolean;
}

class Kept<Item> implements Place {
  readonly item: Item;
  at: number;
  #bag: Kept<Item>[] | null;

  constructor(item: Item, bag: Kept<Item>[]) {
    this.item = item;
    this.at = bag.push(this) - 1;
    this.#bag = bag;
  }

  remove(): boolean {
    const bag = this.#bag;
    if (!bag) return false;
    this.#bag = null;
    const last = bag.pop();
    if (last && last !== this) {
      bag[this.at] = last;
      last.at = this.at;
    }
    return true;
  }
}

export class Bag<Item> implements Iterable<Item> {
  readonly #kept: Kept<Item>[] = [];

  get size(): number {
    return this.#kept.length;
  }

  add(item: Item): Place {
    return new Kept(item, this.#kept);
  }

  /** What was in it at the beginning, whatever is added or removed meanwhile. */
  *[Symbol.iterator](): Generator<Item> {
    for (const { item } of [...this.#kept]) yield item;
  }
}
