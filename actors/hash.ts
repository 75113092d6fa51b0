/** 32-bit hashes and dice, integer maths only: the same value on every machine for the same input. */

/** murmur3's finaliser: every bit of the input moves every bit of the output. */
export function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** A safe integer, its high bits too. */
export const mixId = (id: number): number => mix(mix(id) ^ Math.imul(Math.floor(id / 2 ** 32) | 0, 0x9e3779b1));

export function hashText(text: string, seed = 0): number {
  let h = seed | 0;
  for (let i = 0; i < text.length; i++) {
    const k = Math.imul(text.charCodeAt(i), 0xcc9e2d51);
    h ^= Math.imul((k << 15) | (k >>> 17), 0x1b873593);
    h = (Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64) | 0;
  }
  return mix(h ^ text.length);
}

/** A throw of the dice that lives in a state: the next seed, and the fraction in [0, 1) that a seed stands for. */
export const nextSeed = (seed: number): number => mix((seed + 0x9e3779b9) | 0);
export const fraction = (seed: number): number => mix(seed ^ 0x5bd1e995) / 2 ** 32;
