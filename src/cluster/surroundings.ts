/** What a request at its ingress reads of its node: connections held here, who is home, who is alive. */
import type { Millis } from "../../actors/actor.ts";
import { type Failure, failure } from "../../actors/failure.ts";
import type { HomeAnswer } from "../../actors/home-index.ts";
import { type AgentId, type NodeId, nameOf } from "../../actors/ids.ts";
import { slotOf } from "../../actors/ring.ts";
import type { Route } from "../../actors/route.ts";
import type { Holding } from "./holding.ts";
import type { HomeIndex } from "./home.ts";
import type { Presence } from "./presence.ts";

export class Surroundings {
  readonly #presence: Presence;
  readonly #home: HomeIndex;
  readonly #holding: Holding;
  readonly #reachesOthers: () => boolean;

  constructor(presence: Presence, home: HomeIndex, holding: Holding, reachesOthers: () => boolean) {
    this.#presence = presence;
    this.#home = home;
    this.#holding = holding;
    this.#reachesOthers = reachesOthers;
  }

  get self(): NodeId {
    return this.#presence.self;
  }

  /** False while the bus is away: cached routes do not age. */
  get ageing(): boolean {
    return this.#presence.connected;
  }

  /** Why other nodes cannot be asked, or null. */
  get cut(): Failure | null {
    if (this.#presence.connected || this.#presence.others().length === 0 || this.#reachesOthers()) return null;
    return failure(
      "cluster-unavailable",
      `Node ${nameOf(this.self)} cannot ask the other nodes: its NATS connection is down and no link to them is up, so it reaches only agents ` +
        "that are connected here or were used a moment ago. Try again, and check NATS",
    );
  }

  /** Connections held here that may be used. */
  own(agent: AgentId): readonly Route[] {
    return this.#holding.own(agent);
  }

  home(agent: AgentId, index: number): NodeId | null {
    return this.#presence.home(slotOf(agent), index);
  }

  /** This node's own index. */
  askHere(agent: AgentId, watch: Millis): HomeAnswer {
    return this.#home.lookUp(this.self, agent, watch);
  }

  stateOf(node: NodeId): "alive" | "suspect" | "gone" {
    return this.#presence.stateOf(node);
  }

  others(): readonly NodeId[] {
    return this.#presence.others();
  }
}
