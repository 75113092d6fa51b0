/**
 * A network that loses everything towards one address of this machine, as a cable that was cut would: no reset, no end, and
 * not even the kernel of the other side answers. Needs `ip` and root.
 */
import { execFileSync } from "node:child_process";
import { findProgram } from "./need.ts";

/** Nobody else uses it: the loopback net has 16 million. */
export const FAR = `127.77.${process.pid % 250}.9`;

const ip = (...args: readonly string[]): void => {
  execFileSync(findProgram("ip") ?? "ip", [...args], { stdio: "ignore" });
};

export class BlackHole implements Disposable {
  #open = false;

  static available(): boolean {
    if (process.getuid?.() !== 0 || !findProgram("ip")) return false;
    using hole = new BlackHole();
    try {
      hole.open();
      return true;
    } catch {
      return false;
    }
  }

  /** From now on what goes to `FAR` is lost. */
  open(): void {
    ip("route", "add", "blackhole", `${FAR}/32`, "table", "local");
    this.#open = true;
  }

  close(): void {
    if (this.#open) ip("route", "del", "blackhole", `${FAR}/32`, "table", "local");
    this.#open = false;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
