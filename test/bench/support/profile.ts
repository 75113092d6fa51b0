/** CPU profiles as node writes them at its exit, and where their time went: by function, between two instants. */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";

export type CallFrame = { readonly functionName: string; readonly url: string; readonly lineNumber: number };
export type CpuProfile = {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: CallFrame;
    readonly children?: readonly number[];
  }[];
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

/** Self time in microseconds by node of the call tree; idle time left out. */
export function nodeTimes({ nodes, startTime, samples, timeDeltas }: CpuProfile, window: Window): Map<number, number> {
  const idle = new Set(nodes.filter(({ callFrame }) => callFrame.functionName === "(idle)").map(({ id }) => id));
  const times = new Map<number, number>();
  let now = startTime;
  for (const [i, sample] of samples.entries()) {
    now += timeDeltas[i] ?? 0;
    if (now < window.from || now > window.to || idle.has(sample)) continue;
    times.set(sample, (times.get(sample) ?? 0) + (timeDeltas[i + 1] ?? 0));
  }
  return times;
}

/** The same by function, most first. */
export function selfTimes(profile: CpuProfile, window: Window): [string, number][] {
  const byNode = nodeTimes(profile, window);
  const times = new Map<string, number>();
  for (const { id, callFrame } of profile.nodes) {
    const name = nameOf(callFrame);
    times.set(name, (times.get(name) ?? 0) + (byNode.get(id) ?? 0));
  }
  return [...times].filter(([, micros]) => micros > 0).toSorted(([, a], [, b]) => b - a);
}

export function nameOf({ functionName, url, lineNumber }: CallFrame): string {
  const file = url.replace(/^.*\/node_modules\//, "").replace(/^file:\/\/.*?\/(src|actors|test)\//, "$1/");
  const where = file && `${file}:${lineNumber + 1}`;
  return [functionName || "(anonymous)", where].filter(Boolean).join(" ");
}
