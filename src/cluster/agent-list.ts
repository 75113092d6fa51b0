/** How lists of connected agents are asked for, filtered, ordered and paged, the same on every node. */
import type { AgentChange, AgentFilter, ConnectedAgent } from "./router.ts";

export const LIST = "/kas.node.v1/ListAgents";
export const WATCH = "/kas.node.v1/WatchAgents";
export const MAX_PAGE_SIZE = 1_000;

export type ListQuestion = { readonly filter: AgentFilter; readonly after: string; readonly limit: number };

/** Sorts as (agent, node, connection), so that a page token says exactly where the next page starts. */
export const keyOf = (a: ConnectedAgent): string =>
  `${String(a.agentId).padStart(16, "0")}/${a.node}/${String(a.connection).padStart(10, "0")}`;

export const byKey = (a: ConnectedAgent, b: ConnectedAgent): number => (keyOf(a) < keyOf(b) ? -1 : 1);

/** An empty filter matches all. */
export const matches = (filter: AgentFilter, agent: ConnectedAgent): boolean =>
  (filter.agentIds.length === 0 && filter.projectIds.length === 0) ||
  filter.agentIds.includes(agent.agentId) ||
  filter.projectIds.includes(agent.projectId);

/** A snapshot as messages of bounded size, the last one `complete`; any other change as it is. */
export function inParts(change: AgentChange): readonly AgentChange[] {
  if (change.type !== "snapshot") return [change];
  const { agents } = change;
  const parts: AgentChange[] = [];
  for (let at = 0; at === 0 || at < agents.length; at += MAX_PAGE_SIZE) {
    const part = agents.slice(at, at + MAX_PAGE_SIZE);
    parts.push({ type: "snapshot", agents: part, complete: at + MAX_PAGE_SIZE >= agents.length, missing: [] });
  }
  return parts;
}

/** Puts the parts of a snapshot together again. */
export function fromParts(whole: (change: AgentChange) => void): (part: AgentChange) => void {
  let agents: ConnectedAgent[] = [];
  return (part) => {
    if (part.type !== "snapshot") {
      whole(part);
      return;
    }
    agents = agents.concat(part.agents);
    if (part.complete) whole({ ...part, agents });
  };
}
