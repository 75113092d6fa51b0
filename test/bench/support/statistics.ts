/** Medians and percentiles of a few numbers, and of many by a histogram. */
import type { RecordableHistogram } from "node:perf_hooks";

export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const high = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] ?? Number.NaN) + high) / 2;
}

/** Node's own is an HDR histogram; it holds microseconds here, and this reads milliseconds. */
export const millisAt = (histogram: RecordableHistogram, share: number): number =>
  histogram.percentile(share * 100) / 1_000;
