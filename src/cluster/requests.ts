/**
 * The requests of this ingress: a cell each, and what they ask for. With a connection here or a cached route the first
 * attempt is made before `open` returns. Those that look for their agent hear of it by `found`; those that are parked
 * are bounded per agent and per node.
 */
import type { Millis } from "../../actors/actor.ts";
import { Bag, type Place } from "../../actors/bag.ts";
import { type Failure, failure } from "../../actors/failure.ts";
import type { HomeAnswer, HomeRoute } from "../../actors/home-index.ts";
import type { AgentId, NodeId } from "../../actors/ids.ts";
import { request } from "../../actors/request.ts";
import type { RequestEffect, RequestMessage, RequestState } from "../../actors/request-state.ts";
import type { Route } from "../../actors/route.ts";
import { cached, forget, type KnownRoute, learn, load, type RouteCache, renew } from "../../actors/route-cache.ts";
import type { Cell } from "../runtime/cell.ts";
import type { System } from "../runtime/system.ts";
import type { Wheel } from "../runtime/wheel.ts";
import type { Lookups } from "./lookups.ts";
import type { RequestControl, RequestPort, RouteSpec } from "./routing.ts";
import type { RoutingSettings } from "./routing-settings.ts";
import type { StreamLimit } from "./stream-limit.ts";
import type { Surroundings } from "./surroundings.ts";

export type RequestsOptions = {
  readonly system: System;
  readonly wheel: Wheel;
  readonly settings: RoutingSettings;
  readonly cache: RouteCache;
  readonly lookups: Lookups;
  readonly around: Surroundings;
  readonly seed: () => number;
  readonly streams: StreamLimit | null;
};

type Running = {
  readonly spec: RouteSpec;
  readonly port: RequestPort;
  readonly cell: Cell<RequestState, RequestMessage, RequestEffect>;
  parked: boolean;
  place: Place | null;
};

/** Requests of one agent that look for it. */
type Seekers = { readonly all: Set<Running>; parked: number };

/** How long a home's word counts as all there is. */
const CURRENT_FOR = 1_000;

export class Requests {
  readonly #options: RequestsOptions;
  readonly #running = new Bag<Running>();
  readonly #seekers = new Map<AgentId, Seekers>();
  #parked = 0;

  constructor(options: RequestsOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#running.size;
  }

  get parked(): number {
    return this.#parked;
  }

  open(spec: RouteSpec, port: RequestPort): RequestControl {
    const { system, wheel, settings, around, seed, streams } = this.#options;
    const full = streams?.takeFor(spec.agentId);
    if (full) {
      port.fail(full);
      return REFUSED;
    }
    const cell = system.cell(`request/${spec.requestId}`, request, {
      clock: wheel,
      perform: (effect) => this.#perform(running, effect),
      respawned: () => this.#crashed(running),
    });
    const running: Running = { spec, port, cell, parked: false, place: null };
    running.place = this.#running.add(running);
    const within = spec.timeLeft > 0 ? Math.min(spec.acceptWithin, spec.timeLeft) : spec.acceptWithin;
    cell.tell({
      type: "start",
      spec: {
        agent: spec.agentId,
        self: around.self,
        idempotent: spec.idempotent,
        within,
        offlineAfter: settings.offlineAfter,
        seed: seed(),
      },
    });
    return {
      report: (attempt, outcome) => void cell.tell({ type: "outcome", attempt, outcome }),
      cancel: () => void cell.tell({ type: "cancel" }),
    };
  }

  /** Somebody says where the agent is. */
  found(agent: AgentId, routes: readonly HomeRoute[]): void {
    const seekers = this.#seekers.get(agent);
    if (!seekers) return;
    const known = this.#learn(agent, routes);
    for (const running of [...seekers.all]) running.cell.tell({ type: "found", routes: known });
  }

  viewChanged(): void {
    for (const seekers of [...this.#seekers.values()]) {
      for (const running of [...seekers.all]) running.cell.tell({ type: "view-changed" });
    }
  }

  stop(reason: Failure): void {
    for (const running of this.#running) running.cell.tell({ type: "stop", failure: reason });
  }

  #perform(running: Running, effect: RequestEffect): void {
    const { cache, wheel } = this.#options;
    const { agentId } = running.spec;
    switch (effect.type) {
      case "look-near":
        this.#lookNear(running);
        return;
      case "look-up":
        this.#lookUp(running, effect.round, effect.home, effect.watch);
        return;
      case "scatter":
        this.#scatter(running, effect.round, effect.nodes);
        return;
      case "park":
        this.#park(running);
        return;
      case "attempt":
        this.#unseek(running);
        load(cache, agentId, effect.route, 1);
        running.port.attempt({
          number: effect.number,
          node: effect.route.node,
          prefer: effect.route.connection,
          exclude: effect.exclude,
        });
        return;
      case "attempt-over":
        load(cache, agentId, effect.route, -1);
        return;
      case "forget":
        forget(cache, agentId, effect.node, effect.connection);
        return;
      case "renew":
        renew(cache, agentId, wheel.now());
        return;
      case "fail":
        running.port.fail(effect.failure);
        return;
      case "over":
        this.#over(running);
        return;
    }
  }

  #lookNear(running: Running): void {
    const { around, cache, wheel } = this.#options;
    const { agentId } = running.spec;
    const own = around.own(agentId);
    const now = wheel.now();
    const elsewhere = cached(cache, agentId, now, around.ageing);
    const routes = elsewhere ? [...own, ...elsewhere.routes] : own;
    const current = elsewhere !== null && now - elsewhere.learntAt < CURRENT_FOR;
    running.cell.tell({ type: "near", routes, current });
  }

  #lookUp(running: Running, round: number, index: number, watch: Millis): void {
    const { around, lookups } = this.#options;
    const { agentId } = running.spec;
    this.#unpark(running);
    this.#seek(running);
    const home = around.home(agentId, index);
    if (home === null) {
      running.cell.tell({ type: "no-home", round });
      return;
    }
    const settled = (answer: HomeAnswer | null) => {
      if (!answer) running.cell.tell({ type: "silent", round });
      else running.cell.tell({ type: "answered", round, answer, routes: this.#learn(agentId, answer.routes) });
    };
    if (home === around.self) settled(around.askHere(agentId, watch));
    else lookups.lookup(home, agentId, watch, settled);
  }

  #scatter(running: Running, round: number, nodes: readonly NodeId[] | "all"): void {
    const { around, lookups } = this.#options;
    const { agentId } = running.spec;
    const others = around.others();
    const asked = nodes === "all" ? others : nodes.filter((node) => others.includes(node));
    lookups.scatter(asked, agentId, (routes) =>
      running.cell.tell({ type: "scattered", round, routes: this.#learn(agentId, routes) }),
    );
  }

  /** Routes as this node knows them: without those over nodes it does not know, and own ones as the own table has them. */
  #learn(agent: AgentId, routes: readonly HomeRoute[]): readonly Route[] {
    const { around, cache, wheel } = this.#options;
    const known: KnownRoute[] = [];
    for (const { node, connection, draining } of routes) {
      const state = node === around.self ? "gone" : around.stateOf(node);
      if (state !== "gone") known.push({ node, connection, draining, suspect: state === "suspect", active: 0 });
    }
    if (known.length > 0) learn(cache, agent, known, wheel.now());
    return [...around.own(agent), ...(cache.entries.get(agent)?.routes ?? [])];
  }

  #park(running: Running): void {
    const refusal = this.#options.around.cut ?? this.#crowded(running.spec.agentId);
    if (refusal) {
      running.cell.tell({ type: "not-parked", failure: refusal });
      return;
    }
    this.#seek(running);
    const seekers = this.#seekers.get(running.spec.agentId);
    if (!seekers || running.parked) return;
    running.parked = true;
    seekers.parked++;
    this.#parked++;
  }

  #crowded(agent: AgentId): Failure | null {
    const { parkedPerAgent, parked } = this.#options.settings;
    if ((this.#seekers.get(agent)?.parked ?? 0) >= parkedPerAgent) {
      return failure("busy", `${parkedPerAgent} requests already wait for agent ${agent} to connect. ${TRY_LATER}`);
    }
    if (this.#parked < parked) return null;
    return failure(
      "busy",
      `Agent ${agent} is not connected and ${parked} requests already wait on this node. ${TRY_LATER}`,
    );
  }

  #seek(running: Running): void {
    const { agentId } = running.spec;
    const seekers = this.#seekers.get(agentId) ?? { all: new Set(), parked: 0 };
    seekers.all.add(running);
    this.#seekers.set(agentId, seekers);
  }

  #unpark(running: Running): void {
    if (!running.parked) return;
    running.parked = false;
    this.#parked--;
    const seekers = this.#seekers.get(running.spec.agentId);
    if (seekers) seekers.parked--;
  }

  #unseek(running: Running): void {
    this.#unpark(running);
    const { agentId } = running.spec;
    const seekers = this.#seekers.get(agentId);
    if (seekers?.all.delete(running) && seekers.all.size === 0) this.#seekers.delete(agentId);
  }

  #over(running: Running): void {
    this.#unseek(running);
    running.cell[Symbol.dispose]();
    if (running.place?.remove()) this.#options.streams?.releaseFor(running.spec.agentId);
    running.place = null;
  }

  /** A bug in it, or in who carries it: nobody knows how far it came. */
  #crashed(running: Running): void {
    if (!running.place) return;
    this.#over(running);
    running.port.fail(failure("internal", "the request actor threw"));
  }
}

const REFUSED: RequestControl = { report() {}, cancel() {} };
const TRY_LATER = "Try again later, and check that the agent's pod runs";
