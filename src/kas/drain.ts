/**
 * Leaving without hurting anybody: readiness off and off the ring at once, agents asked one after the other to go elsewhere,
 * no new sockets after the grace that load balancers need, then watches, other requests, and at `drain_timeout` what is
 * left. An operator's drain goes only as far as the agents, and can be taken back.
 */
import type { Millis } from "../../actors/actor.ts";
import { createDrain, type DrainEffect, type DrainMessage, type DrainState } from "../../actors/drain.ts";
import { failure } from "../../actors/failure.ts";
import type { RunningStream } from "../cluster/running-stream.ts";
import type { KasConfig } from "../config/kas.ts";
import { failed } from "../failed.ts";
import type { Cell } from "../runtime/cell.ts";
import type { Clock } from "../runtime/clock.ts";
import { System } from "../runtime/system.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { KasMetrics } from "../telemetry/metrics.ts";
import type { AgentMoves } from "./agent-moves.ts";
import type { ClusterNode } from "./cluster-node.ts";
import type { Listeners } from "./listeners.ts";
import type { Readiness } from "./readiness.ts";

type Grace = { readonly listen_grace_period: Millis };

export type DrainOptions = {
  readonly config: {
    readonly drain_timeout: Millis;
    readonly agent: { readonly listen: Grace; readonly kubernetes_api: { readonly listen: Grace } };
    readonly timings: Pick<KasConfig["timings"], "drain_spread" | "drain_watches_within" | "drain_requests_within">;
  };
  readonly clock: Clock;
  readonly log: Pick<Logger, "info" | "warn" | "error">;
  readonly node: Pick<ClusterNode, "holder" | "callers"> & {
    readonly routing: Pick<ClusterNode["routing"], "self" | "phase" | "members" | "drain" | "stay" | "leave">;
  };
  readonly readiness: Pick<Readiness, "drain" | "stay">;
  readonly listeners: Pick<Listeners, "close">;
  readonly metrics: Pick<KasMetrics, "drainPhase" | "drainStreams">;
  readonly moves: AgentMoves;
  readonly servers: { drain(): void; active(): number };
};

const LOOK_EVERY: Millis = 50;
/** After the grace, for agents that have not found their way to another node. */
const MOVED_WITHIN: Millis = 10_000;

export class Drain implements Disposable {
  readonly #options: DrainOptions;
  readonly #system: System;
  readonly #cell: Cell<DrainState, DrainMessage, DrainEffect>;
  #timer: Disposable | null = null;
  #run: Promise<void> | null = null;

  constructor(options: DrainOptions) {
    this.#options = options;
    const { clock, log, config } = options;
    this.#system = new System({ clock, log: (text, err) => log.error(text, { err }) });
    const { drain_spread, drain_watches_within, drain_requests_within } = config.timings;
    const settings = {
      spread: Math.min(drain_spread, this.#grace),
      grace: this.#grace,
      watchesWithin: drain_watches_within,
      requestsWithin: drain_requests_within,
      timeout: config.drain_timeout,
    };
    this.#cell = this.#system.spawn("drain", createDrain(settings), { perform: (effect) => this.#perform(effect) });
  }

  /** The whole of it: resolves when nothing is left, or the time is up. */
  run(): Promise<void> {
    this.#run ??= this.#leave();
    return this.#run;
  }

  /** Takes nothing new and sends the agents elsewhere; the process and its streams stay. Throws `invalid` while it joins. */
  begin(): void {
    const { self, phase } = this.#options.node.routing;
    if (phase === "joining")
      throw failed("invalid", `${self} is still joining the cluster: try again when it is ready`);
    if (phase === "up") this.#begin(false);
  }

  /** Takes `begin` back. Throws `invalid` once the process is about to end. */
  stay(): void {
    const { node, readiness, metrics, log } = this.#options;
    if (this.#run) throw failed("invalid", `${node.routing.self} was told to end (SIGTERM): it cannot stay`);
    if (node.routing.phase !== "draining") return;
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
    this.#cell.tell({ type: "stay" });
    node.routing.stay();
    readiness.stay();
    metrics.drainPhase.set(0);
    log.info("drain taken back");
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
    this.#system[Symbol.dispose]();
  }

  get #grace(): Millis {
    const { agent } = this.#options.config;
    return Math.max(agent.listen.listen_grace_period, agent.kubernetes_api.listen.listen_grace_period);
  }

  #begin(ends: boolean): void {
    const { log, node, readiness, metrics } = this.#options;
    log.info("draining", { streams: this.#left() });
    metrics.drainPhase.set(1);
    readiness.drain();
    node.routing.drain();
    this.#cell.tell({ type: "begin", ends });
    this.#timer?.[Symbol.dispose]();
    this.#look();
  }

  async #leave(): Promise<void> {
    const { config, clock, log, node, listeners, metrics, servers } = this.#options;
    const began = clock.now();
    const until = began + config.drain_timeout;
    this.#begin(true);
    servers.drain();
    const graceOver = Math.min(until, began + this.#grace);
    await this.#until(() => false, graceOver);
    listeners.close("agent", "api", "kubernetes_api");
    const moved = graceOver + MOVED_WITHIN;
    await this.#until(() => this.#left() === 0 && (clock.now() >= moved || !this.#hasToMove()), until);
    if (this.#left() > 0) log.warn("drain timeout: streams are cut", { streams: this.#left() });
    this[Symbol.dispose]();
    await node.routing.leave();
    metrics.drainPhase.set(2);
    log.info("left", { took_ms: Math.round(clock.now() - began) });
  }

  /** Agents still connected here while there is another node that takes them. */
  #hasToMove(): boolean {
    const { routing, holder } = this.#options.node;
    const elsewhere = routing
      .members()
      .some(({ node, state }) => node !== routing.self && (state === "alive" || state === "suspect"));
    return elsewhere && [...holder.connections()].length > 0;
  }

  #look(): void {
    const { clock, moves } = this.#options;
    const running = this.#running();
    const watches = running.filter(isWatch).length;
    const requests = running.filter(isRequest).length;
    this.#cell.tell({ type: "look", agents: moves.waiting, watches, requests });
    this.#left();
    this.#timer = clock.schedule(clock.now() + LOOK_EVERY, () => this.#look());
  }

  #perform(effect: DrainEffect): void {
    if (effect.type === "move") {
      this.#options.moves.leave(effect.count);
      return;
    }
    const { log, node } = this.#options;
    const ended = this.#running()
      .filter(effect.what === "watches" ? isWatch : isRequest)
      .slice(0, effect.count);
    log.info("draining: streams are ended", { what: effect.what, streams: ended.length });
    const reason = failure("draining", `${node.routing.self} is leaving: ask again, another node will serve it`);
    for (const stream of ended) stream.cut(reason);
  }

  /** Of agents here and of callers here; one that is both ends with the first. */
  #running(): readonly RunningStream[] {
    const { holder, callers } = this.#options.node;
    return [...holder.streams(), ...callers];
  }

  /** Streams of agents here, whoever asked for them, and requests that came in here. */
  #left(): number {
    const { node, servers, metrics } = this.#options;
    const left = node.holder.streams().size + servers.active();
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

const isWatch = (stream: RunningStream): boolean => stream.class === "watch";
const isRequest = (stream: RunningStream): boolean => stream.class === "unary" || stream.class === "bulk";
