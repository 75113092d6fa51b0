/** CPU time that a process used, all its threads together, from /proc. */
import { readFileSync } from "node:fs";

/** Linux reports CPU time in these; the same on every machine of today. */
const TICKS_PER_SECOND = 100;

export type Watched = { readonly name: string; readonly pid: number };

export function cpuMicros(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const ticks = Number(fields[11]) + Number(fields[12]);
  return (ticks * 1_000_000) / TICKS_PER_SECOND;
}

/** CPU that each process used while `run` ran, by name. */
export async function during<Value>(
  processes: readonly Watched[],
  run: () => Promise<Value>,
): Promise<{ readonly value: Value; readonly cpu: ReadonlyMap<string, number> }> {
  const before = processes.map(({ pid }) => cpuMicros(pid));
  const value = await run();
  const cpu = new Map(processes.map(({ name, pid }, i) => [name, cpuMicros(pid) - (before[i] ?? 0)] as const));
  return { value, cpu };
}
