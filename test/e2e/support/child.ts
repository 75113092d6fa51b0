/**
 * One real process in a process group of its own. It is killed by its pid when disposed, and when the test run itself ends.
 * Lines of JSON on its stdout can be awaited; stdout and stderr are kept in files.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream, existsSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import type { RunDir } from "./run-dir.ts";
import { inTime, until } from "./wait.ts";

export type Line = Readonly<Record<string, unknown>>;
export type Exit = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

export type ChildOptions = {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly dir: RunDir;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
};

const MAX_KEPT = 1024 * 1024;
const running = new Set<number>();
const killGroup = (pid: number, signal: NodeJS.Signals) => {
  try {
    process.kill(-pid, signal);
  } catch {
    // It is gone already.
  }
};
process.on("exit", () => {
  for (const pid of running) killGroup(pid, "SIGKILL");
});

/** Variables that would change what the processes under test do. */
const HIDDEN =
  /^(POD_|KAS_|AGENTK_|OWN_PRIVATE_|OTEL_|KUBERNETES_|KUBECONFIG$|NODE_OPTIONS$|VITEST|HTTPS?_PROXY$|https?_proxy$)/;
const cleanEnv = () => Object.fromEntries(Object.entries(process.env).filter(([name]) => !HIDDEN.test(name)));

export class Child implements AsyncDisposable {
  readonly name: string;
  readonly pid: number;
  readonly lines: Line[] = [];
  readonly exited: Promise<Exit>;
  readonly stderrFile: string;
  #process: ChildProcess;
  #gone = false;
  #stdout = "";

  constructor({ name, command, args, dir, env, cwd }: ChildOptions) {
    this.name = name;
    this.stderrFile = dir.file(`${name}-${Date.now()}.stderr.log`);
    this.#process = spawn(command, args, {
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...cleanEnv(), ...env },
      ...(cwd && { cwd }),
    });
    this.#process.stderr?.pipe(createWriteStream(this.stderrFile));
    this.pid = this.#process.pid ?? 0;
    this.exited = new Promise((resolve, reject) => {
      this.#process.once("error", (cause) =>
        reject(new Error(`${name} cannot be started: ${cause.message}`, { cause })),
      );
      this.#process.once("close", (code, signal) => {
        this.#gone = true;
        running.delete(this.pid);
        resolve({ code, signal });
      });
    });
    this.exited.catch(() => {});
    if (this.pid) running.add(this.pid);
    if (!this.#process.stdout) return;
    this.#process.stdout.on("data", (chunk: Buffer) => {
      this.#stdout = (this.#stdout + chunk.toString("latin1")).slice(-MAX_KEPT);
    });
    createInterface(this.#process.stdout).on("line", (text) => this.#keep(text));
  }

  #keep(text: string): void {
    try {
      const line: unknown = JSON.parse(text);
      if (line && typeof line === "object") this.lines.push(line as Line);
    } catch {
      // Not every program speaks JSON on its stdout.
    }
  }

  /** Its stdout so far, without the beginning when that was long. */
  text(): string {
    return this.#stdout;
  }

  get alive(): boolean {
    return !this.#gone;
  }

  stderr(): string {
    return existsSync(this.stderrFile) ? readFileSync(this.stderrFile, "utf8") : "";
  }

  /** Lines of JSON on stderr. */
  log(): Line[] {
    return this.stderr()
      .split("\n")
      .filter((text) => text.startsWith("{"))
      .flatMap((text) => {
        try {
          return [JSON.parse(text) as Line];
        } catch {
          return [];
        }
      });
  }

  /** Waits for a JSON line on stdout; an exit meanwhile is an error that shows the process's last words. */
  async line(what: string, matches: (line: Line) => boolean, within = 20_000): Promise<Line> {
    return await this.whileAlive(what, () => this.lines.find(matches), within);
  }

  async whileAlive<Value>(what: string, look: () => Promise<Value | undefined> | Value | undefined, within = 20_000) {
    const found = until(`${what} of ${this.name}`, look, { within });
    const gone = this.exited.then(({ code, signal }) => {
      throw new Error(`${this.name} ended (${code ?? signal}) before ${what}\n${this.tail()}`);
    });
    gone.catch(() => {});
    found.catch(() => {});
    try {
      return await Promise.race([found, gone]);
    } catch (error) {
      if (error instanceof Error && !error.message.includes(this.tail())) error.message += `\n${this.tail()}`;
      throw error;
    }
  }

  tail(lines = 30): string {
    return `--- ${this.name}\n${this.#stdout.split("\n").slice(-6).join("\n")}${this.stderr().split("\n").slice(-lines).join("\n")}`;
  }

  write(text: string | Uint8Array): void {
    this.#process.stdin?.write(text);
  }

  signal(signal: NodeJS.Signals): void {
    if (!this.#gone && this.pid) killGroup(this.pid, signal);
  }

  /** kill -9, and waits until the kernel has closed its sockets. */
  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await inTime(`the end of ${this.name} after SIGKILL`, 5_000, this.exited);
  }

  /** Asks it to end; kills it when it has not ended after `within`. */
  async stop(within = 10_000): Promise<Exit> {
    this.signal("SIGTERM");
    this.signal("SIGCONT");
    try {
      return await inTime(`the end of ${this.name} after SIGTERM`, within, this.exited);
    } catch {
      await this.kill();
      return await this.exited;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.pid) return;
    await this.kill();
  }
}
