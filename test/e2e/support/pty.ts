/** Runs a command on a terminal of its own that can be typed into and resized: `script` makes it, `stty` resizes it. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { Child } from "./child.ts";
import type { RunDir } from "./run-dir.ts";

const run = promisify(execFile);
const quote = (word: string) => `'${word.replaceAll("'", "'\\''")}'`;

export class Terminal implements AsyncDisposable {
  readonly child: Child;

  private constructor(child: Child) {
    this.child = child;
  }

  static start(dir: RunDir, command: readonly string[]): Terminal {
    const line = `tty; exec ${command.map(quote).join(" ")}`;
    return new Terminal(new Child({ name: "terminal", command: "script", args: ["-qefc", line, "/dev/null"], dir }));
  }

  /** Waits until the screen shows `text`. */
  async shows(text: string | RegExp, within = 15_000): Promise<string> {
    const seen = () => this.child.text().match(text)?.[0];
    return await this.child.whileAlive(`the text ${text} on the terminal`, seen, within);
  }

  async resize(rows: number, columns: number): Promise<void> {
    const device = await this.shows(/\/dev\/pts\/\d+/);
    await run("stty", ["-F", device, "rows", String(rows), "cols", String(columns)]);
  }

  type(text: string): void {
    this.child.write(text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.child[Symbol.asyncDispose]();
  }
}
