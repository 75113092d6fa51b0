/**
 * All workers of one supervisor, together: they start together or not at all, drain together, and when the cluster refuses
 * one, the others stop. None of them outlives this process.
 */
import { type ChildProcess, spawn } from "node:child_process";
import type { Millis } from "../../../actors/actor.ts";
import type { Failure } from "../../../actors/failure.ts";
import type { KasConfig } from "../../config/kas.ts";
import { Failed } from "../../failed.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Logger } from "../../telemetry/logger.ts";
import { WorkerProcess } from "./worker-process.ts";

export type FleetOptions = {
  /** One for each worker. */
  readonly configs: readonly KasConfig[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  /** A worker ended by itself and is started again. */
  readonly restarted: (worker: number) => void;
};

/** A worker gives itself a little less. */
const STOP_WITHIN: Millis = 5_000;

export class Fleet implements AsyncDisposable {
  readonly workers: readonly WorkerProcess[];
  readonly #log: Logger;
  readonly #refused = Promise.withResolvers<void>();
  #refusal: Failed | null = null;
  #ending = false;

  constructor({ configs, env, restarted, ...common }: FleetOptions) {
    this.#log = common.log;
    this.workers = configs.map((config, index) => {
      const own = { index, config, spawn: () => spawnWorker(config.node.name, env) };
      const restarting = () => restarted(index);
      return new WorkerProcess({ ...common, ...own, restarting, refused: (why) => this.#refuse(index, why) });
    });
    this.#refused.promise.catch(() => {});
    process.on("exit", this.#kill);
  }

  /** Settles only when a worker must not go on, because its name is another's: then all are gone, and it rejects. */
  get refused(): Promise<void> {
    return this.#refused.promise;
  }

  /** No caller should come any more. */
  get ending(): boolean {
    return this.#ending;
  }

  /** Resolves to the addresses of each worker's listeners when all are up; rejects when one cannot be. */
  async start(): Promise<readonly ReadonlyMap<string, string>[]> {
    try {
      return await Promise.all(this.workers.map((worker) => worker.start()));
    } catch (error) {
      throw this.#refusal ?? error;
    }
  }

  /** Resolves when all are gone. */
  async drain(within: Millis): Promise<void> {
    this.#ending = true;
    await Promise.all(this.workers.map((worker) => worker.end("drain", within)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending = true;
    await Promise.all(this.workers.map((worker) => worker.end("stop", STOP_WITHIN)));
    process.off("exit", this.#kill);
  }

  #refuse(worker: number, why: Failure): void {
    const refusal = new Failed(why);
    this.#refusal ??= refusal;
    this.#log.error("worker refused by the cluster, all stop", { worker, reason: why.reason });
    this[Symbol.asyncDispose]().then(() => this.#refused.reject(refusal));
  }

  /** Also when this process ends at once, by a second signal or by an error of ours. */
  readonly #kill = (): void => {
    for (const worker of this.workers) worker.kill();
  };
}

/** The same program on the same Node; `name` is for whoever lists processes. */
function spawnWorker(name: string, env: FleetOptions["env"]): ChildProcess {
  const [, program = ""] = process.argv;
  return spawn(process.execPath, [...process.execArgv, program, "worker", name], {
    env: { ...env },
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    serialization: "advanced",
  });
}
