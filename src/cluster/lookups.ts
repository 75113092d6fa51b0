/**
 * Questions to other nodes about where an agent is. Equal questions under way are asked once; each has a deadline of the
 * messenger. An inbox that nobody reads is reported as evidence.
 */
import type { Millis } from "../../actors/actor.ts";
import type { HomeAnswer, HomeRoute } from "../../actors/home-index.ts";
import type { AgentId, NodeId } from "../../actors/ids.ts";
import type { Messenger } from "./messenger.ts";
import { decode, encode, type RoutingMessage } from "./wire.ts";

export type LookupsOptions = {
  readonly messenger: Messenger | null;
  readonly lookupWithin: Millis;
  readonly scatterWithin: Millis;
  readonly scatters: number;
  readonly unanswered: (node: NodeId) => void;
};

type Settled = (answer: HomeAnswer | null) => void;

export class Lookups {
  readonly #options: LookupsOptions;
  readonly #waiting = new Map<string, Settled[]>();
  #scatters = 0;

  constructor(options: LookupsOptions) {
    this.#options = options;
  }

  /** Asks under way. */
  get size(): number {
    return this.#waiting.size;
  }

  lookup(home: NodeId, agent: AgentId, watch: Millis, settled: Settled): void {
    this.#ask(home, { type: "lookup", agent, watch }, agent, this.#options.lookupWithin, settled);
  }

  /** Asks all of `nodes` what they hold; the first that holds some ends it, null when too many ask already. */
  scatter(nodes: readonly NodeId[], agent: AgentId, settled: (routes: readonly HomeRoute[]) => void): void {
    if (nodes.length === 0 || this.#scatters >= this.#options.scatters) {
      settled([]);
      return;
    }
    this.#scatters++;
    let left = nodes.length;
    let over = false;
    const end = (routes: readonly HomeRoute[]) => {
      if (over) return;
      over = true;
      this.#scatters--;
      settled(routes);
    };
    for (const node of nodes) {
      this.#ask(node, { type: "whohas", agent }, agent, this.#options.scatterWithin, (answer) => {
        left--;
        if (answer && answer.routes.length > 0) end(answer.routes);
        else if (left === 0) end([]);
      });
    }
  }

  /** Does anybody read this inbox? */
  probe(node: NodeId): void {
    this.#ask(node, { type: "ping" }, 0, this.#options.lookupWithin, () => {});
  }

  #ask(node: NodeId, message: RoutingMessage, agent: AgentId | 0, within: Millis, settled: Settled): void {
    const { messenger } = this.#options;
    if (!messenger) {
      settled(null);
      return;
    }
    const key = `${message.type} ${agent} ${node}`;
    const waiting = this.#waiting.get(key);
    if (waiting) {
      waiting.push(settled);
      return;
    }
    this.#waiting.set(key, [settled]);
    messenger.ask(node, encode(message), within, (outcome) => {
      const callers = this.#waiting.get(key) ?? [];
      this.#waiting.delete(key);
      if (outcome.type === "no-responders") this.#options.unanswered(node);
      const answer = outcome.type === "answer" ? decode(outcome.message) : null;
      for (const caller of callers) caller(answer?.type === "routes" ? answer.answer : null);
    });
  }
}
