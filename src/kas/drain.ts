/**
 * Leaving without hurting anybody: readiness off and off the ring at once, agents asked to go elsewhere, no new sockets
 * after the grace that load balancers need, then what runs may finish until `drain_timeout`.
 */
import type { Millis } from "../../actors/actor.ts";
import type { KasConfig } from "../config/kas.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { KasMetrics } from "../telemetry/metrics.ts";
import type { ClusterNode } from "./cluster-node.ts";
import type { Listeners } from "./listeners.ts";
import type { Readiness } from "./readiness.ts";

export type DrainOptions = {
  readonly config: KasConfig;
  readonly clock: Clock;
  readonly log: Logger;
  readonly node: ClusterNode;
  readonly readiness: Readiness;
  readonly listeners: Listeners;
  readonly metrics: KasMetrics;
  readonly servers: { drain(): void; active(): number };
};

const LOOK_EVERY: Millis = 50;

export class Drain {
  readonly #options: DrainOptions;
  #run: Promise<void> | null = null;

  constructor(options: DrainOptions) {
    this.#options = options;
  }

  /** Resolves when nothing is left, or the time is up. */
  run(): Promise<void> {
    this.#run ??= this.#drain();
    return this.#run;
  }

  async #drain(): Promise<void> {
    const { config, clock, log, node, readiness, listeners, metrics, servers } = this.#options;
    const began = clock.now();
    const until = began + config.drain_timeout;
    log.info("draining", { streams: this.#left() });
    metrics.drainPhase.set(1);
    readiness.drain();
    node.routing.drain();
    for (const { id, link } of node.holder.connections()) {
      node.routing.drained(id);
      link.drain();
    }
    servers.drain();
    const grace = Math.max(
      config.agent.listen.listen_grace_period,
      config.agent.kubernetes_api.listen.listen_grace_period,
    );
    await this.#until(() => false, Math.min(until, began + grace));
    listeners.close("agent", "api", "kubernetes_api");
    await this.#until(() => this.#left() === 0, until);
    if (this.#left() > 0) log.warn("drain timeout: streams are cut", { streams: this.#left() });
    await node.routing.leave();
    metrics.drainPhase.set(2);
    log.info("left", { took_ms: Math.round(clock.now() - began) });
  }

  /** Streams of agents here, whoever asked for them, and requests that came in here. */
  #left(): number {
    const { node, servers, metrics } = this.#options;
    const held = [...node.holder.connections()].reduce((sum, { link }) => sum + link.streams, 0);
    const left = held + servers.active();
    metrics.drainStreams.set(left);
    return left;
  }

  /** Resolves once `done` says so, at `at` at the latest. */
  async #until(done: () => boolean, at: Millis): Promise<void> {
    const { clock } = this.#options;
    while (!done() && clock.now() < at) {
      const next = Math.min(at, clock.now() + LOOK_EVERY);
      await new Promise<void>((resolve) => void clock.schedule(next, resolve));
    }
  }
}
