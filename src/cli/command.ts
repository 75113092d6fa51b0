/** What every command line shares: the process as an argument, one clear text per error, and what signals mean. */
import { Command, CommanderError } from "commander";
import { Failed } from "../failed.ts";

/** All that a command may know of its process; the launcher supplies it. */
export interface CommandProcess {
  /** Without the interpreter and the script. */
  readonly argv: readonly string[];
  readonly env: Record<string, string | undefined>;
  readonly version: string;
  stdout(text: string): void;
  stderr(text: string): void;
  onSignal(received: (signal: string) => void): void;
}

/** A server or agent that runs until it is told to end. */
export interface Running {
  /** It ended by itself, for instance drained by an operator. */
  readonly drained?: Promise<void>;
  drain(): Promise<void>;
  stop(): Promise<void>;
}

/** Usage errors have this exit code, like every other. */
const FAULT = 1;
const SIGNAL_NUMBERS: Readonly<Record<string, number>> = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 };
/**
 * Who signals the whole process group (a terminal's Ctrl-C, a supervisor) reaches the launcher and us, and the launcher passes
 * its own on: one signal that arrives twice.
 */
const SAME_SIGNAL = 100;

/** A program of commander that writes through `process` and throws instead of exiting; also in its subcommands. */
export function program(name: string, description: string, process: CommandProcess): Command {
  return new Command(name)
    .description(description)
    .version(process.version)
    .exitOverride()
    .showHelpAfterError(`see ${name} --help`)
    .configureOutput({
      writeOut: (text) => process.stdout(text),
      writeErr: (text) => process.stderr(text),
      outputError: (text, write) => write(`${name}: ${text}`),
    });
}

/** What the action wants the process to end with. */
export type Exit = { code: number };

/** Parses and runs; an error becomes its text on stderr. Resolves to the exit code. */
export async function execute(command: Command, process: CommandProcess, exit: Exit): Promise<number> {
  try {
    await command.parseAsync([...process.argv], { from: "user" });
    return exit.code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : FAULT;
    process.stderr(`${command.name()}: ${describe(error)}\n`);
    return FAULT;
  }
}

/** A failure is meant for the reader; anything else is a bug and shows where it is. */
function describe(error: unknown): string {
  if (error instanceof Failed) return error.failure.reason;
  return `internal error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
}

/**
 * Runs what `start` starts. The first signal drains it and ends with 0; a second one, or one before it is up, ends at once
 * with 128 and the signal's number. `now` is monotonic milliseconds.
 */
export async function serve(
  process: CommandProcess,
  start: () => Promise<Running>,
  now: () => number,
): Promise<number> {
  const { promise: ended, resolve: end, reject: fail } = Promise.withResolvers<number>();
  let running: Running | null = null;
  let first = -1;
  process.onSignal((signal) => {
    if (first >= 0 && now() - first < SAME_SIGNAL) return;
    if (first >= 0 || !running) return end(128 + (SIGNAL_NUMBERS[signal] ?? 0));
    first = now();
    finish(running).then(() => end(0), fail);
  });
  const started = start().then((up) => {
    running = up;
    up.drained?.then(() => end(0), fail);
  });
  started.catch(fail);
  return ended;
}

async function finish(running: Running): Promise<void> {
  await running.drain();
  await running.stop();
}
