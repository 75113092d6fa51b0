/**
 * The routing plane of one node: presence, home index, own connections, registrars and requests, wired to a messenger.
 * A cluster of one has no messenger and sends nothing. Everything it holds ends with `leave`.
 */
import type { Entry } from "../../actors/channel.ts";
import { type Failure, failure } from "../../actors/failure.ts";
import type { AgentId, ConnectionId, NodeId, NodeName } from "../../actors/ids.ts";
import { buildRing } from "../../actors/ring.ts";
import { createRouteCache, follow, type RouteCache } from "../../actors/route-cache.ts";
import { System } from "../runtime/system.ts";
import { Wheel } from "../runtime/wheel.ts";
import { dispatch, type Parts } from "./dispatch.ts";
import { explain } from "./explanation.ts";
import { Holding } from "./holding.ts";
import { HomeIndex } from "./home.ts";
import { Lookups } from "./lookups.ts";
import { Presence } from "./presence.ts";
import { Registration } from "./registration.ts";
import { Requests } from "./requests.ts";
import type { RouteExplanation } from "./router.ts";
import type { LocalConnection, Member, RequestControl, RequestPort, RouteSpec, Routing } from "./routing.ts";
import type { RoutingOptions } from "./routing-options.ts";
import { ROUTING_DEFAULTS, type RoutingSettings } from "./routing-settings.ts";
import { Surroundings } from "./surroundings.ts";
import { encode, type RoutingMessage } from "./wire.ts";

export function createRouting(options: RoutingOptions): Routing {
  return new RoutingPlane(options);
}

class RoutingPlane implements Routing {
  readonly name: NodeName;
  onMembers: Routing["onMembers"] = () => {};
  readonly #options: RoutingOptions;
  readonly #settings: RoutingSettings;
  readonly #system: System;
  readonly #wheel: Wheel;
  readonly #cache: RouteCache;
  readonly #presence: Presence;
  readonly #home: HomeIndex;
  readonly #holding: Holding;
  readonly #registration: Registration;
  readonly #lookups: Lookups;
  readonly #around: Surroundings;
  readonly #requests: Requests;
  readonly #parts: Parts;
  #over = false;

  constructor(options: RoutingOptions) {
    this.#options = options;
    this.name = options.name;
    const settings = { ...ROUTING_DEFAULTS, ...options.settings };
    const { messenger, clock, log, holder } = options;
    const system = new System({ clock, log });
    const wheel = new Wheel(clock);
    const seed = () => Math.floor(options.random() * 2 ** 32);
    this.#settings = settings;
    this.#system = system;
    this.#wheel = wheel;
    this.#cache = createRouteCache(settings.cachedAgents, settings.cachedFor);
    const unanswered = (node: NodeId) => this.#presence.tell({ type: "unanswered", node });
    this.#lookups = new Lookups({ ...settings, messenger, unanswered });
    this.#presence = this.#openPresence(seed());
    this.#home = new HomeIndex({
      system,
      clock,
      wallClock: options.wallClock,
      settings: settings.home,
      self: () => this.self,
      current: () => this.#presence.connected,
      entries: () => this.#holding.entries(),
      send: (to, message) => this.#send(to, message),
      found: (agent, routes) => this.#requests.found(agent, routes),
      superseded: (connection) => this.#holding.superseded(connection),
    });
    this.#registration = new Registration({
      system,
      wheel,
      settings: settings.registrar,
      registeredWithin: settings.registeredWithin,
      seed,
      entries: () => this.#holding.entries(),
      send: (home, message) => this.#send(home, { type: "channel", message }),
      registered: (connection) => holder.registered(connection),
    });
    this.#holding = new Holding({
      system,
      streamsPerAgent: settings.streamsPerAgent,
      put: (entry) => this.#put(entry),
      remove: (entry) => this.#remove(entry),
      close: (connection) => holder.superseded(connection),
    });
    this.#around = new Surroundings(this.#presence, this.#home, this.#holding, () => messenger?.reachesOthers ?? true);
    const { cache, lookups, around } = { cache: this.#cache, lookups: this.#lookups, around: this.#around };
    this.#requests = new Requests({
      system,
      wheel,
      settings,
      cache,
      lookups,
      around,
      seed,
      streams: options.streams ?? null,
    });
    this.#parts = {
      presence: this.#presence,
      home: this.#home,
      holding: this.#holding,
      registration: this.#registration,
      requests: this.#requests,
    };
  }

  #openPresence(seed: number): Presence {
    const { messenger, name, incarnation, address, deposed, renamed } = this.#options;
    return new Presence({
      system: this.#system,
      name,
      incarnation,
      address,
      seed,
      settings: this.#settings,
      alone: messenger === null,
      buildRing: this.#options.buildRing ?? buildRing,
      broadcast: (heartbeat) => messenger?.broadcast(encode({ type: "hb", heartbeat })),
      introduce: (to, peers) => this.#send(to, { type: "members", peers }),
      outdated: (to, highest) => this.#send(to, { type: "outdated", incarnation: highest }),
      probe: (node) => this.#lookups.probe(node),
      stalled: () => this.#home.doubt(),
      viewed: () => this.#viewed(),
      deposed: (reason) => {
        this.#end(reason);
        deposed(reason);
      },
      renamed: renamed && ((self) => this.#rename(self, renamed)),
    });
  }

  // ---- this node among the others

  get self(): NodeId {
    return this.#presence.self;
  }

  get phase(): Routing["phase"] {
    return this.#presence.phase;
  }

  get view(): number {
    return this.#presence.view.hash;
  }

  join(): Promise<void> {
    const { messenger } = this.#options;
    if (messenger) {
      messenger.onMessage = (from, message, reply) => {
        if (!this.#over) dispatch(this.#parts, from, message, reply);
      };
      messenger.onConnection = (connected) => {
        this.#presence.tell({ type: "connection", connected });
        // Away: what changes is missed. Back: it was.
        this.#home.doubt();
      };
    }
    return this.#presence.join(messenger?.connected ?? true);
  }

  async leave(): Promise<void> {
    if (this.#over) return;
    this.#presence.leave();
    this.#end(failure("draining", `Node ${this.name} is stopping. Try again now: another node will serve the request`));
  }

  drain(): void {
    this.#presence.tell({ type: "drain" });
  }

  /** While it was no home nobody told it what changed. */
  stay(): void {
    this.#home.doubt();
    this.#presence.tell({ type: "stay" });
  }

  members(): readonly Member[] {
    return this.#presence.members();
  }

  get bus(): Routing["bus"] {
    const now = this.#options.clock.now();
    return { awayFor: this.#presence.busAwayFor(now), othersHaveIt: this.#presence.othersAreOnBus(now) };
  }

  peerHeard(node: NodeId, at = this.#options.clock.now()): void {
    this.#presence.tell({ type: "link-heard", node, at });
  }

  peerRefused(node: NodeId): void {
    this.#presence.tell({ type: "link-refused", node });
  }

  // ---- connections held here

  connected(connection: LocalConnection): ConnectionId {
    const id = this.#holding.connected(this.self, connection, this.#options.wallClock());
    this.#counted();
    return id;
  }

  disconnected(connection: ConnectionId): void {
    this.#holding.disconnected(connection);
    this.#counted();
  }

  drained(connection: ConnectionId): void {
    this.#holding.drained(connection);
    this.#counted();
  }

  #counted(): void {
    this.#presence.tell({ type: "connections", count: this.#holding.serving });
  }

  take(agentId: AgentId, prefer: ConnectionId | 0, exclude: readonly ConnectionId[]): ConnectionId | Failure {
    if (this.#over) return failure("draining", `node ${this.name} has left; nothing was sent`);
    return this.#holding.take(agentId, prefer, exclude);
  }

  released(connection: ConnectionId): void {
    this.#holding.released(connection);
  }

  #put(entry: Entry): void {
    this.#home.put(entry);
    this.#registration.put(entry);
    this.#requests.found(entry.agent, []);
  }

  #remove(entry: Entry): void {
    this.#home.remove(entry.connection);
    this.#registration.remove(entry);
  }

  // ---- requests that came in here

  request(spec: RouteSpec, port: RequestPort): RequestControl {
    return this.#requests.open(spec, port);
  }

  explain(agentId: AgentId): Promise<RouteExplanation> {
    const members = () => this.members().map(({ node, state }) => ({ node, state }));
    const { clock } = this.#options;
    const within = 2 * this.#settings.lookupWithin;
    return explain(
      { clock, lookups: this.#lookups, cache: this.#cache, around: this.#around, members, within },
      agentId,
    );
  }

  counts(): ReturnType<Routing["counts"]> {
    return {
      members: this.members().length,
      entries: this.#home.entries,
      requests: this.#requests.size,
      parked: this.#requests.parked,
      watches: this.#home.watches,
      asks: this.#lookups.size,
    };
  }

  // ---- messages and effects

  #send(to: NodeId, message: RoutingMessage): void {
    if (!this.#over) this.#options.messenger?.send(to, encode(message));
  }

  #viewed(): void {
    const others = this.#presence.others();
    const members = new Set(others);
    this.#home.follow(members);
    this.#registration.follow(this.#presence.homes(), (node) => members.has(node));
    follow(this.#cache, (node) => this.#presence.stateOf(node));
    this.#requests.viewChanged();
    this.onMembers(this.members(), this.#presence.lost());
  }

  /** Connections taken while joining are named after the process that we are not: their agents dial again. */
  #rename(self: NodeId, renamed: (self: NodeId) => void): void {
    this.#holding.closeAll();
    this.#home.renamed();
    renamed(self);
  }

  #end(reason: Failure): void {
    this.#over = true;
    this.#requests.stop(reason);
    this.#system[Symbol.dispose]();
    this.#wheel[Symbol.dispose]();
  }
}
