/** How lists of connected agents are asked for, filtered, ordered and paged, the same on every node. */
import type { AgentFilter, ConnectedAgent } from "./router.ts";

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
