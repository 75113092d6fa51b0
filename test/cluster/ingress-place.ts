/** Where the tests of an ingress run: one node, or two with the agent at the other. */
import type { AgentId } from "../../actors/ids.ts";
import type { RouteRequest } from "../../src/cluster/router.ts";
import { StreamCluster } from "../support/stream-cluster.ts";
import type { Kas } from "../support/stream-node.ts";
import type { Behaviour } from "../support/streams.ts";

export const agent = 7 as AgentId;
export const GET = { method: "GET", idempotent: true } satisfies Partial<RouteRequest>;
export const WHOLE = ["accepted", "head", "data", "trailer", "end", "closed"];

/** The same expectations for an agent held at the ingress and at another node. */
export const PLACES = [
  ["held here", ["a"]],
  ["held by another node", ["a", "b"]],
] as const;

type Place = { readonly cluster: StreamCluster; readonly ingress: Kas; readonly holder: Kas; readonly hop: string };

async function place(names: readonly string[]): Promise<Place> {
  const [cluster, ingress, holder] = await StreamCluster.of(...names);
  if (!ingress) throw new RangeError("no node");
  return { cluster, ingress, holder: holder ?? ingress, hop: holder ? "remote" : "local" };
}

/** One agent connected and known to the homes. */
export async function placed(names: readonly string[], ...behaviours: Behaviour[]) {
  const at = await place(names);
  const agents = [];
  for (const behaviour of behaviours) agents.push(await at.holder.agent(agent, behaviour));
  await at.cluster.pass(500);
  return { ...at, agents };
}
