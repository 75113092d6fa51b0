/**
 * Bytes whose place and owner can be told: byte `i` of stream `key`. Two keys differ almost everywhere, a byte lost,
 * doubled or moved shows at once.
 */
const PERIOD = 65_521; // a prime, so that no frame or window is a multiple of it
const POOL = Buffer.alloc(3 * PERIOD);
{
  let state = 1;
  for (let i = 0; i < PERIOD; i++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    POOL[i] = state >>> 16;
  }
  POOL.copy(POOL, PERIOD, 0, PERIOD);
  POOL.copy(POOL, 2 * PERIOD, 0, PERIOD);
}

const startOf = (key: number, at: number): number => (key * 7_919 + at) % PERIOD;

/** A view: do not write to it. At most 64 KiB. */
export function patternAt(key: number, at: number, length: number): Uint8Array {
  const start = startOf(key, at);
  return POOL.subarray(start, start + length);
}

/** Are these the bytes of `key` from `at` on? */
export function isPattern(key: number, at: number, bytes: Uint8Array): boolean {
  for (let done = 0; done < bytes.length; done += PERIOD) {
    const part = bytes.subarray(done, done + PERIOD);
    if (POOL.compare(part, 0, part.length, startOf(key, at + done), startOf(key, at + done) + part.length) !== 0)
      return false;
  }
  return true;
}
