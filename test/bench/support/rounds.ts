/**
 * Runs that are compared take turns: round by round, each for a few seconds, so that whatever else the machine does meets all
 * of them. A ratio is the median of the rounds' ratios, which is much steadier than a rate.
 */

import { rssBytes } from "../../support/resident-memory.ts";
import { type Load, SHARES } from "./load.ts";
import { median } from "./statistics.ts";
import { during, type Watched } from "./usage.ts";

export type Contestant = {
  readonly name: string;
  readonly watched: readonly Watched[];
  readonly run: (seconds: number) => Promise<Load>;
};

export type Result = {
  readonly name: string;
  readonly rates: readonly number[];
  readonly p50: number;
  readonly p99: number;
  /** Milliseconds at each of SHARES, medians of the rounds. */
  readonly latency: readonly number[];
  /** Bytes per second that the callers read. */
  readonly throughput: readonly number[];
  /** All that was asked and read. */
  readonly requests: number;
  readonly bytes: number;
  /** Microseconds per request by process. */
  readonly cpu: ReadonlyMap<string, number>;
  /** The same in all. */
  readonly spent: ReadonlyMap<string, number>;
  readonly rss: ReadonlyMap<string, number>;
};

type Round = { readonly load: Load; readonly cpu: ReadonlyMap<string, number> };

/** In the first ten thousand requests V8's compilers take up to half of all CPU time. */
const WARM_REQUESTS = 15_000;
const WARM_SECONDS = 5;

/** Before rounds of requests that are small: who serves has served enough of them to be as fast as it gets. */
export async function warmUp(contestants: readonly Contestant[]): Promise<void> {
  for (const { run } of contestants) {
    let served = 0;
    for (let seconds = 0; seconds < WARM_SECONDS && served < WARM_REQUESTS; seconds++)
      served += (await run(1)).requests;
  }
}

export async function inRounds(
  contestants: readonly Contestant[],
  rounds: number,
  seconds: number,
): Promise<ReadonlyMap<string, Result>> {
  for (const { run } of contestants) await run(seconds > 2 ? 2 : 1); // warm
  const all = new Map<string, Round[]>(contestants.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const { name, watched, run } of contestants) {
      const { value: load, cpu } = await during(watched, () => run(seconds));
      all.get(name)?.push({ load, cpu });
    }
  }
  return new Map(
    contestants.map((contestant) => [contestant.name, resultOf(contestant, all.get(contestant.name) ?? [])]),
  );
}

function resultOf({ name, watched }: Contestant, rounds: readonly Round[]): Result {
  const loads = rounds.map(({ load }) => load);
  const requests = loads.reduce((sum, { requests }) => sum + requests, 0);
  const spent = (process: string) => rounds.reduce((sum, { cpu }) => sum + (cpu.get(process) ?? 0), 0);
  return {
    name,
    rates: loads.map(({ requests, seconds }) => requests / seconds),
    p50: median(loads.map(({ p50 }) => p50)),
    p99: median(loads.map(({ p99 }) => p99)),
    latency: SHARES.map((_, i) => median(loads.map(({ latency }) => latency[i] ?? Number.NaN))),
    throughput: loads.map(({ bytes, seconds }) => bytes / seconds),
    requests,
    bytes: loads.reduce((sum, { bytes }) => sum + bytes, 0),
    cpu: new Map(watched.map(({ name }) => [name, spent(name) / requests])),
    spent: new Map(watched.map(({ name }) => [name, spent(name)])),
    rss: new Map(watched.map(({ name, pid }) => [name, rssBytes(pid)])),
  };
}

/** Median over the rounds of ours to theirs. */
export function ratio(ours: readonly number[], theirs: readonly number[]): number {
  return median(ours.map((value, i) => value / (theirs[i] ?? Number.NaN)));
}

export const cpuText = ({ cpu }: Result): string => {
  const total = [...cpu.values()].reduce((sum, micros) => sum + micros, 0);
  return `${[...cpu].map(([name, micros]) => `${name} ${micros.toFixed(0)}`).join(", ")} = ${total.toFixed(0)}`;
};

export const rssText = ({ rss }: Result): string =>
  [...rss].map(([name, bytes]) => `${name} ${(bytes / 2 ** 20).toFixed(0)} MiB`).join(", ");

export const rateText = ({ rates, p50, p99 }: Result): string =>
  `${median(rates).toFixed(0)}/s, p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms`;
