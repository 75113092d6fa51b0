/** What of a process is in memory, from /proc. */
import { readFileSync, writeFileSync } from "node:fs";

export const rssBytes = (pid: number): number => status(pid, "VmRSS");
/** The most that was resident since the process began or its peak was reset. */
export const peakRssBytes = (pid: number): number => status(pid, "VmHWM");

export function resetPeakRss(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, "5");
}

function status(pid: number, field: "VmRSS" | "VmHWM"): number {
  const line = new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(line?.[1] ?? 0) * 1024;
}
