/**
 * What is connected to the whole cluster, asked of every holder at the time of asking: there is no registry to read.
 * A member that does not answer in time is named; its agents are then missing from the list, never guessed.
 */
import type { Millis } from "../../actors/actor.ts";
import { failure } from "../../actors/failure.ts";
import type { AgentId, ConnectionId, NodeId } from "../../actors/ids.ts";
import { byKey, inParts, keyOf, LIST, type ListQuestion, MAX_PAGE_SIZE, matches, WATCH } from "./agent-list.ts";
import { askMember } from "./ask-member.ts";
import { ClusterWatch, type DirectoryOptions } from "./cluster-watch.ts";
import type { NodeMethod } from "./node-service.ts";
import type { AgentChange, AgentFilter, AgentPage, ConnectedAgent, Directory, RouteExplanation } from "./router.ts";

export class ClusterDirectory implements Directory {
  readonly #options: DirectoryOptions;
  readonly #watchers = new Set<(change: AgentChange) => void>();

  constructor(options: DirectoryOptions) {
    this.#options = options;
    options.holder.onChange = (change) => {
      for (const watcher of this.#watchers) watcher(change);
    };
  }

  /** What peers may ask of this node. */
  readonly methods: ReadonlyMap<string, NodeMethod> = new Map<string, NodeMethod>([
    [
      LIST,
      (question, call) => {
        call.answer(this.#local(question as ListQuestion));
        call.end();
        return () => {};
      },
    ],
    [
      WATCH,
      (question, call) => {
        const watching = this.#watchLocal((question as ListQuestion).filter, (change) => {
          if (inParts(change).reduce((_, part) => call.answer(part), true)) return;
          watching[Symbol.dispose]();
          call.fail({ failure: failure("busy", "the watcher reads too slowly: list again"), unprocessed: false });
        });
        return () => watching[Symbol.dispose]();
      },
    ],
  ]);

  #local({ filter, after, limit }: ListQuestion): ConnectedAgent[] {
    const { holder } = this.#options;
    const agents: ConnectedAgent[] = [];
    for (const connection of holder.connections()) {
      const agent = holder.describe(connection);
      if (matches(filter, agent) && keyOf(agent) > after) agents.push(agent);
    }
    return agents.sort(byKey).slice(0, limit);
  }

  #watchLocal(filter: AgentFilter, changed: (change: AgentChange) => void): Disposable {
    const agents = this.#local({ filter, after: "", limit: Number.POSITIVE_INFINITY });
    const told = new Set<ConnectionId>(agents.map(({ connection }) => connection));
    const watcher = (change: AgentChange) => {
      if (change.type === "connected" && matches(filter, change.agent)) told.add(change.agent.connection);
      else if (change.type !== "disconnected" || !told.delete(change.connection)) return;
      changed(change);
    };
    changed({ type: "snapshot", agents, complete: true, missing: [] });
    this.#watchers.add(watcher);
    return { [Symbol.dispose]: () => void this.#watchers.delete(watcher) };
  }

  #others(): NodeId[] {
    const { routing } = this.#options;
    return routing.members().flatMap((m) => (m.node === routing.self || m.state === "joining" ? [] : [m.node]));
  }

  async list(filter: AgentFilter, pageSize: number, pageToken: string, within: Millis): Promise<AgentPage> {
    const limit = Math.min(MAX_PAGE_SIZE, Math.max(1, pageSize || MAX_PAGE_SIZE));
    const question: ListQuestion = { filter, after: pageToken, limit: limit + 1 };
    const others = this.#others();
    const asked = others.map((node) => askMember(this.#options, node, LIST, question, within));
    const answers = (await Promise.all(asked)) as readonly (ConnectedAgent[] | null)[];
    const missing = others.filter((_, n) => answers[n] === null);
    const all = [this.#local(question), ...answers.map((agents) => agents ?? [])].flat().sort(byKey);
    const agents = all.slice(0, limit);
    const last = agents.at(-1);
    return {
      agents,
      nextPageToken: all.length > limit && last ? keyOf(last) : "",
      complete: missing.length === 0,
      missing,
    };
  }

  watch(filter: AgentFilter, changed: (change: AgentChange) => void): Disposable {
    return new ClusterWatch(this.#options, filter, changed, (tell) => this.#watchLocal(filter, tell));
  }

  explain(agentId: AgentId): Promise<RouteExplanation> {
    return this.#options.routing.explain(agentId);
  }
}
