/**
 * Two carriers joined in memory, for tests and for benchmarks of a link alone. Bytes arrive on a later turn and in order.
 * A direction can be stalled, its chunks cut, and the pair cut after any byte.
 */
import type { Carrier } from "../link.ts";

export type MemoryOptions = {
  readonly maxBatchBytes?: number;
  readonly maxBatches?: number;
  /** Sizes of the chunks that the other side gets, in turn; without it they are as they were written. */
  readonly chunks?: () => number;
};

export class MemoryCarrier implements Carrier {
  readonly maxBatchBytes: number;
  readonly maxBatches: number;
  onData: (chunk: Uint8Array) => void = () => {};
  onClosed: (reason: string) => void = () => {};
  readonly #chunks: (() => number) | undefined;
  #other: MemoryCarrier | null = null;
  #waiting: { readonly batch: readonly Uint8Array[]; readonly taken: () => void }[] = [];
  #scheduled = false;
  #stalled = false;
  #ending = false;
  #closed = false;
  #left = Number.POSITIVE_INFINITY;
  /** Bytes that went over, so that tests can see what was carried. */
  carried = 0;

  constructor({ maxBatchBytes = 128 * 1024, maxBatches = 2, chunks }: MemoryOptions) {
    this.maxBatchBytes = maxBatchBytes;
    this.maxBatches = maxBatches;
    this.#chunks = chunks;
  }

  join(other: MemoryCarrier): void {
    this.#other = other;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Nothing of ours arrives until `resume`. */
  stall(): void {
    this.#stalled = true;
  }

  resume(): void {
    this.#stalled = false;
    this.#schedule();
  }

  /** Both ends are lost once the other side got `bytes` more. */
  cutAfter(bytes: number): void {
    this.#left = bytes;
    if (bytes === 0) this.#cut("cut");
  }

  write(batch: readonly Uint8Array[], _bytes: number, taken: () => void): void {
    if (this.#closed || this.#ending) return;
    this.#waiting.push({ batch, taken });
    this.#schedule();
  }

  end(): void {
    this.#ending = true;
    this.#schedule();
  }

  destroy(): void {
    this.#cut("destroyed");
  }

  #schedule(): void {
    if (this.#scheduled || this.#stalled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#deliver();
    });
  }

  #deliver(): void {
    if (this.#stalled || this.#closed) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { batch, taken } of waiting) {
      for (const part of batch) this.#send(part);
      if (!this.#closed) taken();
    }
    if (this.#ending && this.#waiting.length === 0) this.#cut("ended");
  }

  #send(part: Uint8Array): void {
    let at = 0;
    while (at < part.length && !this.#closed) {
      const size = Math.min(this.#chunks?.() ?? part.length, part.length - at, this.#left);
      this.#left -= size;
      this.carried += size;
      if (size > 0) this.#other?.onData(part.subarray(at, at + size));
      at += size;
      if (this.#left === 0) this.#cut("cut");
    }
  }

  #cut(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#waiting = [];
    if (this.#other) this.#other.#cut(reason);
    this.onClosed(reason);
  }
}

export function memoryCarriers(options: MemoryOptions = {}): readonly [MemoryCarrier, MemoryCarrier] {
  const pair = [new MemoryCarrier(options), new MemoryCarrier(options)] as const;
  pair[0].join(pair[1]);
  pair[1].join(pair[0]);
  return pair;
}
