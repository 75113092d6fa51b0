/** What must be true of a world at any time, looked at once a second: I1, I7, I10, I11. */
import type { Millis } from "../../actors/actor.ts";
import { type AgentId, type ConnectionId, incarnationOf, type NodeId, nameOf } from "../../actors/ids.ts";
import { decode, encode } from "../../src/cluster/wire.ts";
import type { TestNode } from "../support/cluster.ts";
import { AGENTS, type SimulatedConnection, type World } from "./world.ts";

const EVERY: Millis = 1_000;
/** A digest and two retries, or the death of its holder and a little. */
const STALE_FOR: Millis = 10_000;
/** After this an ingress must have heard that a connection drains, and of another. */
const DRAIN_KNOWN: Millis = 5_000;

export function lookAround(world: World): void {
  world.after(EVERY, () => {
    lookAround(world);
    for (const node of world.alive()) {
      if (world.cluster.isStalled(node) || node.routing.phase !== "up") continue;
      checkEntries(world, node);
      checkIncarnations(world, node);
    }
  });
}

export type HeldRoute = { readonly node: NodeId; readonly connection: ConnectionId };

/** What the index of a node says about an agent. */
export function routesAt(node: TestNode, agent: AgentId): readonly HeldRoute[] {
  let found: readonly HeldRoute[] = [];
  node.messenger.onMessage("z.1" as NodeId, encode({ type: "lookup", agent, watch: 0 }), (answer) => {
    const read = decode(answer);
    if (read?.type === "routes") found = read.answer.routes;
  });
  return found;
}

/** I1: an entry stands for a connection that its holder had. I7: not for long after it is closed. */
function checkEntries(world: World, home: TestNode): void {
  const now = world.now();
  for (let agent = 1 as AgentId; agent <= AGENTS; agent++) {
    for (const { node, connection } of routesAt(home, agent)) {
      const known = world.connections.find((c) => c.holder === node && c.id === connection);
      if (known?.pod.agent !== agent) {
        world.violation(`I1 ${home.id} has ${node}#${connection} of agent ${agent}, which was never there`);
      } else if (known.to < now - STALE_FOR && world.network.isCalm(known.to, now)) {
        world.violation(`I7 ${home.id} still has ${node}#${connection}, closed ${Math.round(now - known.to)} ms ago`);
      }
    }
  }
}

/** I11: of two incarnations of a name at most one is a member; the older never follows the newer. */
function checkIncarnations(world: World, node: TestNode): void {
  const newest = world.newest(node);
  const seen = new Set<string>();
  for (const { node: member, state } of node.routing.members()) {
    if (state === "joining") continue;
    const name = nameOf(member);
    if (seen.has(name)) world.violation(`I11 ${node.id} believes in two incarnations of ${name}`);
    seen.add(name);
    if (incarnationOf(member) < (newest.get(name) ?? 0)) {
      world.violation(`I11 ${node.id} went back to ${member}`);
    }
    newest.set(name, incarnationOf(member));
  }
}

/** I10: nothing new on a draining connection while another that does not drain has been there for long. */
export function checkDraining(world: World, connection: SimulatedConnection, agent: AgentId): void {
  const now = world.now();
  const { drainedAt, pod, holder, id } = connection;
  if (drainedAt > now - DRAIN_KNOWN || !world.network.isCalm(drainedAt, now)) return;
  const better = world.connections.some(
    (c) => c.pod.agent === pod.agent && c.to > now && c.from < now - DRAIN_KNOWN && c.drainedAt > now && !c.frozen,
  );
  if (better) world.violation(`I10 a stream for agent ${agent} was handed to ${holder}#${id}, which drains`);
}
