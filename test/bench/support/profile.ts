/** CPU profiles as node writes them at its exit, and where their time went: by function, between two instants. */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";

type CallFrame = { readonly functionName: string; readonly url: string; readonly lineNumber: number };
type CpuProfile = {
  readonly nodes: readonly { readonly id: number; readonly callFrame: CallFrame }[];
  readonly startTime: number;
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
};

export type Window = { readonly from: number; readonly to: number };

/** `dir` null: no profile. */
export const profileEnv = (dir: string | null): Readonly<Record<string, string>> =>
  dir ? { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${dir}` } : {};

/** On the clock of the profiles, in microseconds. */
export const instant = (): number => Number(process.hrtime.bigint() / 1000n);

/** The profile that the process of this pid wrote; null when it wrote none. */
export function readProfile(dir: string, pid: number): CpuProfile | null {
  const [file] = globSync(join(dir, `CPU.*.${pid}.0.*.cpuprofile`));
  return file ? (JSON.parse(readFileSync(file, "utf8")) as CpuProfile) : null;
}

/** Self time in microseconds by function, most first; idle time left out. */
export function selfTimes({ nodes, startTime, samples, timeDeltas }: CpuProfile, window: Window): [string, number][] {
  const names = new Map(nodes.map(({ id, callFrame }) => [id, nameOf(callFrame)]));
  const times = new Map<string, number>();
  let now = startTime;
  for (const [i, sample] of samples.entries()) {
    const took = timeDeltas[i + 1] ?? 0;
    now += timeDeltas[i] ?? 0;
    const name = names.get(sample) ?? "";
    if (now < window.from || now > window.to || name === "(idle)") continue;
    times.set(name, (times.get(name) ?? 0) + took);
  }
  return [...times].toSorted(([, a], [, b]) => b - a);
}

function nameOf({ functionName, url, lineNumber }: CallFrame): string {
  const file = url.replace(/^.*\/node_modules\//, "").replace(/^file:\/\/.*?\/(src|actors|test)\//, "$1/");
  const where = file && `${file}:${lineNumber + 1}`;
  return [functionName || "(anonymous)", where].filter(Boolean).join(" ");
}
