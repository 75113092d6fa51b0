/**
 * One worker as its supervisor sees it: a process that is started again when it ends by itself, a little later each time.
 * There is at most one at a time. One that ran and was refused by the cluster is not started again.
 */
import type { ChildProcess } from "node:child_process";
import type { Millis } from "../../../actors/actor.ts";
import { backoff } from "../../../actors/backoff.ts";
import { type Failure, failure } from "../../../actors/failure.ts";
import type { KasConfig } from "../../config/kas.ts";
import { Failed } from "../../failed.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Logger } from "../../telemetry/logger.ts";
import type { Readiness } from "../../telemetry/observability-server.ts";
import type { ToSupervisor, ToWorker } from "./message.ts";

export type WorkerProcessOptions = {
  readonly index: number;
  readonly config: KasConfig;
  readonly spawn: () => ChildProcess;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  /** It ended by itself and will be started again. */
  readonly restarting: () => void;
  /** It ran and must not go on: its name is another's. It is not started again. */
  readonly refused: (why: Failure) => void;
};

const FIRST_REST: Millis = 1_000;
const LONGEST_REST: Millis = 15_000;
/** Having run for so long, its next end is a first one. */
const STEADY_AFTER: Millis = 30_000;
const UP_WITHIN: Millis = 60_000;
/** It tells its state every second. */
const SILENT_AFTER: Millis = 5_000;
const STUCK_AFTER: Millis = 30_000;

type Living = {
  readonly child: ChildProcess;
  readonly since: Millis;
  readonly addresses: Map<string, string>;
  /** What it said last and when; null until it is up. */
  told: { readonly state: Readiness; readonly at: Millis } | null;
  failure: Failure | null;
};

export class WorkerProcess {
  readonly index: number;
  readonly #options: WorkerProcessOptions;
  readonly #firstUp = Promise.withResolvers<ReadonlyMap<string, string>>();
  #living: Living | null = null;
  #gone: Promise<void> = Promise.resolve();
  #rest: Disposable | null = null;
  #everUp = false;
  #ending = false;
  #round = 0;

  constructor(options: WorkerProcessOptions) {
    this.index = options.index;
    this.#options = options;
    this.#firstUp.promise.catch(() => {});
  }

  /** Resolves to its listeners' addresses when it is up for the first time; rejects when it ends before. */
  start(): Promise<ReadonlyMap<string, string>> {
    const { clock, index } = this.#options;
    this.#spawn();
    clock.schedule(clock.now() + UP_WITHIN, () => {
      const why = `worker ${index} was not up within ${UP_WITHIN / 1_000} s`;
      if (!this.#everUp) this.#firstUp.reject(new Failed(failure("internal", why)));
    });
    return this.#firstUp.promise;
  }

  /** Sockets may land on it: one that is being started again listens only once it is up. */
  get takesSockets(): boolean {
    return (this.#living?.told ?? null) !== null;
  }

  /** As it told last. */
  get readiness(): Readiness {
    const told = this.#living?.told;
    if (!told) return { ready: false, phase: "starting", reason: "it is being started" };
    const silent = this.#options.clock.now() - told.at;
    if (silent < SILENT_AFTER) return told.state;
    return { ready: false, phase: "silent", reason: `it has said nothing for ${Math.round(silent / 1_000)} s` };
  }

  /** False while its event loop is stuck for 30 s. One that is being started again is no reason to end all. */
  get alive(): boolean {
    const told = this.#living?.told;
    return !told || this.#options.clock.now() - told.at < STUCK_AFTER;
  }

  /** Where its metrics and resources are; null while it has none. */
  get observability(): string | null {
    return (this.#living?.told && this.#living.addresses.get("observability")) ?? null;
  }

  /** Ends it for good; kills it when it has not ended after `within`. */
  async end(how: "drain" | "stop", within: Millis): Promise<void> {
    this.#ending = true;
    this.#rest?.[Symbol.dispose]();
    this.#tell({ type: how });
    const { clock, log, index } = this.#options;
    using _late = clock.schedule(clock.now() + within, () => {
      log.error("worker killed: it did not end in time", { worker: index, told_to: how });
      this.kill();
    });
    await this.#gone;
  }

  kill(): void {
    this.#living?.child.kill("SIGKILL");
  }

  #tell(message: ToWorker): void {
    const child = this.#living?.child;
    // It may be ending at this very moment: then its end is what tells.
    if (child?.connected) child.send(message, () => {});
  }

  #spawn(): void {
    const { spawn, clock, config } = this.#options;
    const child = spawn();
    const living: Living = { child, since: clock.now(), addresses: new Map(), told: null, failure: null };
    this.#living = living;
    child.on("message", (message: ToSupervisor) => this.#hear(living, message));
    this.#gone = endOf(child).then((how) => this.#ended(living, how));
    this.#tell({ type: "start", config, replaces: this.#everUp });
  }

  #hear(living: Living, message: ToSupervisor): void {
    switch (message.type) {
      case "listening":
        living.addresses.set(message.listener, message.address);
        return;
      case "state": {
        const { ready, phase, reason } = message;
        living.told = { state: { ready, phase, reason }, at: this.#options.clock.now() };
        this.#everUp = true;
        this.#firstUp.resolve(living.addresses);
        return;
      }
      case "failed":
        living.failure = message.failure;
        return;
    }
  }

  #ended(living: Living, how: string): void {
    const { index, clock, log, refused } = this.#options;
    this.#living = null;
    const why = living.failure ?? failure("internal", `worker ${index} ended by itself (${how})`);
    this.#firstUp.reject(new Failed(why));
    if (this.#ending || !this.#everUp) return;
    if (living.told && living.failure) return refused(living.failure);
    if (clock.now() - living.since >= STEADY_AFTER) this.#round = 0;
    const rest = backoff(this.#round++, FIRST_REST, LONGEST_REST, this.#options.random());
    const again_in_ms = Math.round(rest);
    log.error("worker ended, it is started again", {
      worker: index,
      pid: living.child.pid,
      how,
      reason: why.reason,
      again_in_ms,
    });
    this.#options.restarting();
    this.#rest = clock.schedule(clock.now() + rest, () => this.#spawn());
  }
}

/** Once the process is gone and all it said was heard. */
function endOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    let left = 2;
    let how = "";
    const one = () => {
      left -= 1;
      if (left === 0) resolve(how);
    };
    child.on("error", (error) => {
      if (child.pid === undefined) resolve(`it cannot be started: ${error.message}`);
    });
    child.once("disconnect", one);
    child.once("exit", (code, signal) => {
      how = code === null ? `signal ${signal}` : `exit code ${code}`;
      one();
    });
  });
}
