/** A process for command lines under test: what they print and the signals they are sent. */
import type { CommandProcess } from "../../src/cli/command.ts";

export type FakeProcess = CommandProcess & {
  readonly out: () => string;
  readonly err: () => string;
  readonly signal: (name: string) => void;
};

export function fakeProcess(argv: readonly string[], env: Record<string, string | undefined> = {}): FakeProcess {
  let out = "";
  let err = "";
  const received: ((signal: string) => void)[] = [];
  return {
    argv,
    env,
    version: "1.2.3",
    stdout: (text) => {
      out += text;
    },
    stderr: (text) => {
      err += text;
    },
    onSignal: (run) => void received.push(run),
    out: () => out,
    err: () => err,
    signal: (name) => {
      for (const run of received) run(name);
    },
  };
}
