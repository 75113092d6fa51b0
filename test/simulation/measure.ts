/**
 * `node --expose-gc test/simulation/measure.ts`: what the routing protocol costs and how soon it routes, in virtual time over
 * a calm network of 1 to 4 ms. The numbers of docs/routing.md; the memory is real.
 */

import type { ChannelMessage, Entry } from "../../actors/channel.ts";
import { createHome } from "../../actors/home.ts";
import type { AgentId, NodeId } from "../../actors/ids.ts";
import { noSlots } from "../../actors/ring.ts";
import { ROUTING_DEFAULTS } from "../../src/cluster/routing-settings.ts";
import { decode, encode } from "../../src/cluster/wire.ts";
import { Cluster, local, outcomeOf, overTheWire, type TestNode } from "../support/cluster.ts";

const percentile = (values: readonly number[], p: number) =>
  values.toSorted((a, b) => a - b)[Math.floor((p / 100) * (values.length - 1))] ?? 0;
const say = (what: string, values: readonly number[], unit = "ms") =>
  console.log(
    `${what}: p50 ${percentile(values, 50)} ${unit}, p99 ${percentile(values, 99)} ${unit}, most ${Math.max(...values)} ${unit}`,
  );

function calm(names: string, seed: number): { cluster: Cluster; nodes: TestNode[] } {
  const cluster = new Cluster(seed);
  cluster.linked = true;
  cluster.weather = () => [1 + Math.floor(4 * cluster.random())];
  const nodes = [...names].map((name) => cluster.start(name));
  for (const node of nodes) node.routing.join();
  cluster.advance(10_000);
  return { cluster, nodes };
}

const pick = <T>(cluster: Cluster, from: readonly T[]): T => from[Math.floor(cluster.random() * from.length)] as T;

/** Virtual ms until the request's first attempt at `node`; a wrong one before is refused by proof. */
function routed(cluster: Cluster, from: TestNode, agent: AgentId, node: NodeId): number {
  const began = cluster.clock.now();
  const request = outcomeOf(from, agent);
  let told = 0;
  for (let i = 0; i < 20_000; i++) {
    const last = request.attempts.at(-1);
    if (last?.node === node) break;
    if (last && last.number > told) {
      told = last.number;
      const gone = { code: "node-gone", reason: "" } as const;
      request.control.report(last.number, { type: "refused", failure: gone, dial: true });
    }
    cluster.advance(1);
  }
  request.control.report(request.attempts.length, { type: "done" });
  return cluster.clock.now() - began;
}

const seeds = Array.from({ length: 100 }, (_, i) => i + 1);
const cold: number[] = [];
const waited: number[] = [];
const afterCrash: number[] = [];
const homeCrash: number[] = [];
const coldMessages: number[] = [];
for (const seed of seeds) {
  const { cluster, nodes } = calm("abcde", seed);
  const [first] = nodes;
  if (!first) throw new Error("five nodes were started");
  const agent = (1_000 + seed) as AgentId;
  const holder = pick(cluster, nodes.slice(1));
  const request = outcomeOf(first, agent, { acceptWithin: 60_000 });
  cluster.advance(5_000);
  holder.routing.connected(local(agent));
  const began = cluster.clock.now();
  while (request.attempts.length === 0 && cluster.clock.now() - began < 5_000) cluster.advance(1);
  waited.push(cluster.clock.now() - began);
  request.control.report(1, { type: "done" });
  cluster.advance(100);
  const other = pick(
    cluster,
    nodes.slice(1).filter((node) => node !== holder),
  );
  const before = cluster.sent;
  cold.push(routed(cluster, other, agent, holder.id));
  coldMessages.push(cluster.sent - before);
  cluster.crash(holder);
  cluster.advance(300);
  const next = pick(
    cluster,
    nodes.slice(1).filter((node) => node !== holder),
  );
  next.routing.connected(local(agent, { link: 2 }));
  afterCrash.push(routed(cluster, first, agent, next.id));
  const quiet = (2_000 + seed) as AgentId;
  next.routing.connected(local(quiet));
  cluster.advance(15_000);
  const home = (await explainNow(cluster, first, quiet)).find((node) => node !== first.id && node !== next.id);
  const dead = nodes.find(({ id }) => id === home);
  if (!dead) continue;
  cluster.crash(dead);
  cluster.advance(5);
  homeCrash.push(routed(cluster, first, quiet, next.id));
}

async function explainNow(cluster: Cluster, node: TestNode, agent: AgentId): Promise<readonly NodeId[]> {
  const explaining = node.routing.explain(agent);
  cluster.advance(1_000);
  return (await explaining).homes;
}

say("a waiting request, after its agent connected anywhere", waited);
say("a cold request, agent on another node", cold);
say("its messages, answers and whatever else was said meanwhile included", coldMessages, "");
say("a request 300 ms after its holder was killed, agent back elsewhere that instant", afterCrash);
say("a cold request 5 ms after a home was killed", homeCrash);

const { cluster, nodes } = calm("abcde", 7);
const holder = nodes[1] as TestNode;
for (let id = 1; id <= 200; id++) holder.routing.connected(local(id as AgentId));
cluster.advance(5_000);
let before = cluster.sent;
cluster.advance(60_000);
console.log(
  `5 idle nodes, one with 200 agents: ${((cluster.sent - before) / 60 / 5).toFixed(1)} messages a second and node`,
);
before = cluster.sent;
for (let id = 201; id <= 300; id++) {
  holder.routing.connected(local(id as AgentId));
  cluster.advance(200);
}
const idle = 20 * 5 * 5.6;
console.log(
  `100 connects, one every 200 ms: ${cluster.sent - before} messages in 20 s, heartbeats (about ${idle}) included`,
);

function fill(count: number): unknown {
  const actor = createHome("a.1" as NodeId, ROUTING_DEFAULTS.home);
  const holders = ["b.1", "c.1", "d.1"] as NodeId[];
  let [state] = actor.receive(
    actor.initial,
    { type: "members", self: "a.1" as NodeId, members: new Set(holders), wall: 0 },
    1,
  );
  for (let part = 0; part * 1_000 < count; part++) {
    const entries = Array.from({ length: 1_000 }, (_, i) => entryOf(part * 1_000 + i + 1));
    const position = { epoch: 1, seq: Math.floor(part / 3) + 1 };
    const told: ChannelMessage =
      position.seq === 1
        ? { type: "snap", ...position, part: 0, parts: 1, slots: noSlots().fill(255), entries }
        : { type: "delta", ...position, put: entries, removed: [] };
    const read = decode(overTheWire(encode({ type: "channel", message: told })));
    if (read?.type !== "channel") throw new Error("it did not survive the codec");
    const from = holders[part % 3] as NodeId;
    [state] = actor.receive(state, { type: "channel", from, message: read.message, wall: 0 }, 2);
  }
  return state;
}

const entryOf = (id: number): Entry => ({
  connection: id as Entry["connection"],
  agent: id as AgentId,
  instance: `gitlab-agent/agentk-7d9f8b6c5-${(id % 60_000).toString(36).padStart(5, "x")}`,
  process: (id * 104_729).toString(16).padStart(16, "0"),
  link: 1,
  lost: [],
  since: 1_700_000_000_000 + id,
  draining: false,
});

const heap = (): number => {
  globalThis.gc?.();
  globalThis.gc?.();
  return process.memoryUsage().heapUsed;
};
fill(100_000);
const bare = heap();
const kept = fill(100_000);
console.log(`100,000 entries of three holders in an index: ${((heap() - bare) / 1e6).toFixed(1)} MB`, kept ? "" : "");
