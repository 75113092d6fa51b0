/** Three nodes whose directories are asked, and a watcher that keeps what it was told. */
import type { AgentId } from "../../actors/ids.ts";
import type { AgentChange, AgentFilter, ConnectedAgent } from "../../src/cluster/router.ts";
import { StreamCluster } from "../support/stream-cluster.ts";
import type { Kas } from "../support/stream-node.ts";

export const ALL: AgentFilter = { agentIds: [], projectIds: [] };
export const id = (agent: number) => agent as AgentId;

export async function three() {
  const [cluster, a, b, c] = await StreamCluster.of("a", "b", "c");
  if (!a || !b || !c) throw new RangeError("no nodes");
  return { cluster, a, b, c };
}

export const example = (n: number): ConnectedAgent => ({
  agentId: id(n),
  node: "b.1" as never,
  connection: n as never,
  name: `agent ${n}`,
  projectId: 1,
  version: "v1",
  instance: "",
  transport: "grpc",
  connectedAt: 0,
  activeStreams: 0,
  services: [],
});

/** What a user of a watch knows: the last snapshot with every change applied. */
class Knows {
  readonly told: AgentChange[] = [];
  readonly known = new Map<string, ConnectedAgent>();
  readonly surprises: string[] = [];

  readonly changed = (change: AgentChange): void => {
    this.told.push(change);
    switch (change.type) {
      case "snapshot":
        if (this.told.length > 1) this.surprises.push("a second snapshot");
        for (const agent of change.agents) this.#add(agent);
        return;
      case "resync":
        for (const [key, { node }] of this.known) if (node === change.node) this.known.delete(key);
        for (const agent of change.agents) this.#add(agent);
        return;
      case "connected":
        this.#add(change.agent);
        return;
      case "disconnected":
        if (!this.known.delete(`${change.node}/${change.connection}`)) this.surprises.push("an unknown one left");
    }
  };

  #add(agent: ConnectedAgent): void {
    const key = `${agent.node}/${agent.connection}`;
    if (this.known.has(key)) this.surprises.push(`${key} twice`);
    this.known.set(key, agent);
  }

  get agents(): number[] {
    return [...this.known.values()].map(({ agentId }) => agentId).sort((x, y) => x - y);
  }
  get types(): string[] {
    return this.told.map(({ type }) => type);
  }
}

export function watch(kas: Kas, filter = ALL) {
  const knows = new Knows();
  return { knows, watching: kas.directory.watch(filter, knows.changed) };
}
