/**
 * One real process of the demo. What it says is kept (the last lines) and can be awaited; it is ended by its pid. A kas or
 * agentk ends by itself when the demo is gone, however that went.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { failed } from "../failed.ts";

export type Program = {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
};

const KEPT_LINES = 200;
const SHOWN_LINES = 6;
const SHOWN_COLUMNS = 300;
const ENDS_WITHIN = 4_000;
const POLL_EVERY = 25;

export class Child {
  readonly name: string;
  readonly pid: number;
  readonly ended: Promise<string>;
  readonly #process: ChildProcess;
  readonly #lines: string[] = [];
  #end: string | null = null;

  constructor({ name, command, args, env }: Program) {
    this.name = name;
    const child = spawn(command, args, {
      // A group of its own: Ctrl-C reaches the demo, which then ends the others in order.
      detached: true,
      stdio: ["ignore", "pipe", "pipe", "pipe"],
      env: { ...env, KAS_LIFELINE_FD: "3" },
    });
    this.#process = child;
    this.pid = child.pid ?? 0;
    for (const stream of [child.stdout, child.stderr]) if (stream) this.#listen(stream);
    child.stdio[3]?.on("error", () => {});
    const { promise, resolve } = Promise.withResolvers<string>();
    this.ended = promise;
    child.once("error", (error) => resolve(`cannot be started: ${error.message}`));
    child.once("close", (code, signal) => resolve(`ended with ${signal ?? `exit code ${code}`}`));
    promise.then((how) => {
      this.#end = how;
    });
  }

  #listen(stream: Readable): void {
    createInterface(stream).on("line", (line) => {
      this.#lines.push(line);
      if (this.#lines.length > KEPT_LINES) this.#lines.shift();
    });
  }

  get alive(): boolean {
    return this.#end === null;
  }

  /** The first line that `read` makes something of. */
  async said<Found>(what: string, read: (line: string) => Found | null, within = 15_000): Promise<Found> {
    return await this.until(
      what,
      async () => {
        for (const line of this.#lines) {
          const found = read(line);
          if (found !== null) return found;
        }
        return null;
      },
      within,
    );
  }

  /** Asks again until there is something; fails when the process ends or the time is over, with its last words. */
  async until<Found>(what: string, look: () => Promise<Found | null>, within = 20_000): Promise<Found> {
    const deadline = performance.now() + within;
    for (;;) {
      const found = await look().catch(() => null);
      if (found !== null) return found;
      if (this.#end !== null) throw failed("internal", `${this.name} ${this.#end} before ${what}${this.lastWords()}`);
      if (performance.now() >= deadline) {
        throw failed("internal", `${this.name}: ${what} did not come within ${within / 1000} s${this.lastWords()}`);
      }
      await sleep(POLL_EVERY);
    }
  }

  lastWords(): string {
    const last = this.#lines.slice(-SHOWN_LINES).map((line) => `\n    ${line.slice(0, SHOWN_COLUMNS)}`);
    return last.length > 0 ? `. Its last lines:${last.join("")}` : "; it said nothing";
  }

  /** Asks it to end, and makes it after a while. */
  async end(): Promise<void> {
    if (!this.alive || this.pid === 0) return;
    this.#process.kill("SIGTERM");
    const hasty = setTimeout(() => this.kill(), ENDS_WITHIN);
    if (this.#process.exitCode === null && this.#process.signalCode === null) await once(this.#process, "exit");
    clearTimeout(hasty);
  }

  kill(): void {
    if (this.alive && this.pid !== 0) this.#process.kill("SIGKILL");
  }
}
