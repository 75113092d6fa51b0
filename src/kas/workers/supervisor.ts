/**
 * `kas serve --workers N`: starts N processes, each a whole node, that share the ports of agents and callers, and speaks for
 * them to the operator: one drain, one page of metrics, one set of probes. It carries no request itself.
 */
import type { Millis } from "../../../actors/actor.ts";
import type { KasConfig } from "../../config/kas.ts";
import { withSharedPorts, workerConfigs } from "../../config/worker.ts";
import { systemClock } from "../../runtime/clock.ts";
import { createLogger } from "../../telemetry/logger.ts";
import { Listeners } from "../listeners.ts";
import { Fleet } from "./fleet.ts";
import { createFront } from "./front.ts";
import { createSupervisorMetrics } from "./metrics.ts";
import { claimPorts } from "./ports.ts";

export type SupervisorOptions = {
  readonly config: KasConfig;
  readonly warnings: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: (line: string) => void;
  readonly workers: number;
};

export type RunningWorkers = {
  /** Rejects when a worker must not go on: its name is taken, a newer process has it. The others were stopped. */
  readonly drained: Promise<void>;
  drain(): Promise<void>;
  stop(): Promise<void>;
};

/** Beyond what a worker gives itself. */
const DRAIN_MARGIN: Millis = 15_000;

export async function startWorkers(options: SupervisorOptions): Promise<RunningWorkers> {
  const { config, warnings, env, stdout } = options;
  const { node, observability, drain_timeout } = config;
  const own = workerConfigs(config, options.workers);
  const clock = systemClock;
  await using starting = new AsyncDisposableStack();
  const log = starting.use(createLogger({ level: observability.logging.level, bindings: { node: node.name } }));
  for (const warning of warnings) log.warn(warning);
  const metrics = starting.use(createSupervisorMetrics(node.name, own.length));

  await using claimed = await claimPorts(config);
  const configs = own.map((each) => withSharedPorts(each, claimed.ports));
  const { restarted } = metrics;
  const fleet = starting.use(new Fleet({ configs, env, clock, random: Math.random, log, restarted }));
  const addresses = await fleet.start();
  await claimed[Symbol.asyncDispose]();
  for (const line of listening(addresses)) stdout(line);

  const { workers } = fleet;
  metrics.watch(workers);
  const { registry, alive } = metrics;
  const ending = () => fleet.ending;
  const front = starting.use(createFront({ config: observability, workers, registry, alive, ending, log }));
  const listeners = starting.use(new Listeners({ config, clock, log, stdout, metrics }));
  await listeners.open("observability", observability.listen, (socket) => front.onSocket(socket));
  log.info("workers are up", { workers: workers.length });
  const owned = starting.move();
  return {
    drained: fleet.refused,
    drain() {
      log.info("draining", { workers: workers.length });
      return fleet.drain(drain_timeout + DRAIN_MARGIN);
    },
    stop: () => owned.disposeAsync(),
  };
}

/** One line for each listener of the whole: the shared ones once, and where the other nodes dial each worker. */
function* listening(workers: readonly ReadonlyMap<string, string>[]): Generator<string> {
  const line = (listener: string, address: string, more: object = {}) =>
    JSON.stringify({ msg: "listening", listener, address, ...more });
  for (const [listener, address] of workers[0] ?? []) {
    if (listener !== "private_api" && listener !== "observability") yield line(listener, address);
  }
  for (const [worker, addresses] of workers.entries()) {
    yield line("private_api", addresses.get("private_api") ?? "", { worker });
  }
}
