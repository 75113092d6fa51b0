/**
 * How many streams this node carries at once, those of its callers and those of other nodes together, and those of its
 * callers for one agent: each holds a floor of memory that nobody else can use. Whoever is taken is released once.
 */
import { type Failure, failure } from "../../actors/failure.ts";
import type { AgentId } from "../../actors/ids.ts";

/** Agents without a stream are forgotten when there are so many: not with each request, see `actors/id-table.ts`. */
const SWEEP_AT = 1_024;

export class StreamLimit {
  readonly #perNode: number;
  readonly #perAgent: number;
  readonly #agents = new Map<AgentId, { active: number }>();
  #sweepAt = SWEEP_AT;
  /** Carried now. */
  count = 0;
  /** Refused so far. */
  refusedByNode = 0;
  refusedByAgent = 0;

  constructor(perNode: number, perAgent: number) {
    this.#perNode = perNode;
    this.#perAgent = perAgent;
  }

  /** A stream of a caller of ours. */
  takeFor(agent: AgentId): Failure | null {
    const full = this.#full();
    if (full) return full;
    const mine = this.#of(agent);
    if (mine.active >= this.#perAgent) {
      this.refusedByAgent++;
      const most = `${this.#perAgent} of ${this.#perAgent} streams (limits.streams_per_agent)`;
      return failure("busy", `Callers of this node have ${most} of agent ${agent} in use. Try again later`);
    }
    mine.active++;
    this.count++;
    return null;
  }

  releaseFor(agent: AgentId): void {
    this.#of(agent).active--;
    this.count--;
  }

  #of(agent: AgentId): { active: number } {
    const known = this.#agents.get(agent);
    if (known) return known;
    if (this.#agents.size >= this.#sweepAt) this.#sweep();
    const first = { active: 0 };
    this.#agents.set(agent, first);
    return first;
  }

  #sweep(): void {
    for (const [agent, { active }] of this.#agents) if (active === 0) this.#agents.delete(agent);
    this.#sweepAt = Math.max(SWEEP_AT, 2 * this.#agents.size);
  }

  /** One that another node opens here; the holder knows how many its agent may have. */
  take(): Failure | null {
    const full = this.#full();
    if (!full) this.count++;
    return full;
  }

  release(): void {
    this.count--;
  }

  #full(): Failure | null {
    if (this.count < this.#perNode) return null;
    this.refusedByNode++;
    const most = `${this.#perNode} of ${this.#perNode} streams (limits.streams_per_node)`;
    return failure("busy", `This node carries ${most}. Try again later, or run more nodes`);
  }
}
