/** Processes as the kernel lists them, without those that are dead and not yet collected. */
import { execFileSync, spawnSync } from "node:child_process";

export type Listed = { readonly pid: number; readonly command: string };

/** Those that `pid` started. */
export function childrenOf(pid: number): readonly Listed[] {
  const lines = execFileSync("ps", ["-eo", "pid=,ppid=,stat=,args="]).toString().trim().split("\n");
  return lines.flatMap((line) => {
    const [own = "", parent = "", stat = "", ...command] = line.trim().split(/\s+/);
    return Number(parent) === pid && !stat.startsWith("Z") ? [{ pid: Number(own), command: command.join(" ") }] : [];
  });
}

export function isAlive(pid: number): boolean {
  const { stdout } = spawnSync("ps", ["-o", "stat=", "-p", String(pid)], { encoding: "utf8" });
  return stdout.trim() !== "" && !stdout.trim().startsWith("Z");
}
