/**
 * One worker of `kas serve --workers`: a whole node that its supervisor tells when to start, drain and stop. It outlives
 * its supervisor by no more than a goodbye to the cluster.
 */
import type { Millis } from "../../../actors/actor.ts";
import { type Failure, failure } from "../../../actors/failure.ts";
import { Failed, failed } from "../../failed.ts";
import { systemClock } from "../../runtime/clock.ts";
import { type RunningKas, startKas } from "../start.ts";
import type { ToSupervisor, ToWorker } from "./message.ts";

const TELL_EVERY: Millis = 1_000;
const STOP_WITHIN: Millis = 4_000;

export type WorkerOptions = {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly onSignal: (received: (signal: string) => void) => void;
};

/** Resolves to the exit code of the process. */
export async function runWorker({ env, onSignal }: WorkerOptions): Promise<number> {
  if (!process.send) throw failed("invalid", "a worker is started by its supervisor: run kas serve --workers N");
  // Who signals the whole group reaches the supervisor too, and that one knows what it means.
  onSignal(() => {});
  const ended = Promise.withResolvers<number>();
  let running: RunningKas | null = null;
  let stopped: Promise<void> | undefined;

  const stop = async (code: number): Promise<void> => {
    systemClock.schedule(systemClock.now() + STOP_WITHIN, () => ended.resolve(code));
    stopped ??= running?.stop();
    await stopped;
    ended.resolve(code);
  };
  const fail = async (error: unknown): Promise<void> => {
    await tell({ type: "failed", failure: whyOf(error) });
    ended.resolve(1);
  };
  const start = async ({ config, replaces }: Extract<ToWorker, { type: "start" }>): Promise<void> => {
    running = await startKas({ config, warnings: [], env, stdout: passOn, worker: { replaces } });
    running.drained.then(() => stop(0)).catch(fail);
    running.readiness.onChange(() => void tellState(running));
    keepTelling(running);
  };
  const drain = async (): Promise<void> => {
    await running?.drain();
    await stop(0);
  };
  process.once("disconnect", () => void stop(1));
  process.on("message", (message: ToWorker) => {
    if (message.type === "start") start(message).catch(fail);
    else if (message.type === "drain") drain().catch(fail);
    else stop(0).catch(fail);
  });
  return await ended.promise;
}

/** Resolves when it has left, or cannot: without a supervisor nobody listens. */
const tell = (message: ToSupervisor): Promise<void> =>
  new Promise((resolve) => {
    if (process.connected) process.send?.(message, undefined, undefined, () => resolve());
    else resolve();
  });

/** The lines of `startKas` name its listeners. */
function passOn(line: string): void {
  const { listener, address }: { readonly listener: string; readonly address: string } = JSON.parse(line);
  void tell({ type: "listening", listener, address });
}

function tellState(running: RunningKas | null): void {
  if (running) void tell({ type: "state", ...running.readiness.probe() });
}

function keepTelling(running: RunningKas): void {
  tellState(running);
  systemClock.schedule(systemClock.now() + TELL_EVERY, () => keepTelling(running));
}

/** Of a bug, too, the supervisor must be able to say what it was. */
function whyOf(error: unknown): Failure {
  if (error instanceof Failed) return error.failure;
  return failure(
    "internal",
    `internal error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
  );
}
