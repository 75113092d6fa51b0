/** What must be true of a world: I4, I6, I8, I9, I13 and I19 at its end; the others are checked as it runs. */
import type { Millis } from "../../actors/actor.ts";
import { nameOf } from "../../actors/ids.ts";
import { buildRing, homesOf, type Ring, slotOf } from "../../actors/ring.ts";
import type { TestNode } from "../support/cluster.ts";
import type { SimulatedRequest } from "./streams.ts";
import { routesAt } from "./watchers.ts";
import type { World } from "./world.ts";

/** An agent reachable for this long before a request fails must not have been missed. */
const REACHABLE_FOR = 3_500;
/** Nor one that was there this long before, when a request is failed before its deadline. */
const SEEN_WITHIN = 30_000;
const LATE = 20;

export function check(world: World): void {
  checkViews(world);
  checkIndexes(world);
  for (const request of world.requests) {
    checkEnd(world, request);
    checkReached(world, request);
    request.checkPromise();
  }
  world.links.check(world);
  for (const { id, node, streams } of world.nodes()) {
    if (node.alive && streams !== 0) world.violation(`I19 ${id} counts ${streams} streams that were not closed`);
  }
  for (const node of world.alive()) {
    const { requests, parked, watches, asks } = node.routing.counts();
    if (requests + parked + watches + asks > 0) {
      world.violation(`I9 ${node.id} keeps ${JSON.stringify({ requests, parked, watches, asks })}`);
    }
    for (const line of node.logged) world.violation(`an actor threw at ${node.id}: ${line}`);
  }
}

function checkViews(world: World): void {
  const alive = world.alive().map((node) => node.id);
  for (const node of world.alive()) {
    const members = node.routing.members().map((member) => member.node);
    if (members.toSorted().join() !== alive.toSorted().join()) world.violation(`I13 ${node.id} believes in ${members}`);
  }
  if (new Set(world.alive().map((node) => node.routing.view)).size > 1) world.violation("I13 the views differ");
}

const rings = new Map<string, Ring>();

function ringOf(world: World): Ring {
  const names = world.alive().map((node) => nameOf(node.id));
  const key = names.toSorted().join();
  const ring = rings.get(key) ?? buildRing(names, 2);
  rings.set(key, ring);
  return ring;
}

/** Every home has exactly the live connections of its slots, besides its own. */
function checkIndexes(world: World): void {
  const ring = ringOf(world);
  const live = world.liveConnections();
  for (const node of world.alive()) {
    const name = nameOf(node.id);
    const own = live.filter((connection) => connection.node === node).length;
    const others = live.filter(
      ({ node: holder, pod }) => holder !== node && homesOf(ring, slotOf(pod.agent)).includes(name),
    );
    const { entries } = node.routing.counts();
    if (entries !== own + others.length) {
      world.violation(`I6 ${node.id} has ${entries} entries, not ${own} + ${others.length}`);
    }
  }
  for (const { pod, node, id } of live) {
    for (const home of homesOf(ring, slotOf(pod.agent))) {
      const keeper = world.alive().find((other) => nameOf(other.id) === home);
      const known = keeper && routesAt(keeper, pod.agent);
      if (known && !known.some((route) => route.node === node.id && route.connection === id)) {
        world.violation(`I6 ${home} does not know ${node.id}#${id} of agent ${pod.agent}`);
      }
    }
  }
}

function checkEnd(world: World, { id, at, ingress, ends, deadline, wasAccepted, plan }: SimulatedRequest): void {
  if (ends.length > 1) world.violation(`I9 ${id} ended ${ends.length} times: ${ends.map((end) => end.outcome)}`);
  const [end] = ends;
  if (!end) {
    if (ingress.alive) world.violation(`I9 ${id} never ended`);
  } else if (plan.timeLeft > 0 && end.at > latest(world, ingress, at + plan.timeLeft)) {
    world.violation(`I9 ${id} ended ${end.outcome} ${end.at - at} ms after it was sent, which had ${plan.timeLeft}`);
  } else if (!wasAccepted && end.at > latest(world, ingress, deadline)) {
    world.violation(`I9 ${id} ended ${end.outcome} ${end.at - deadline} ms late`);
  }
}

/** When it may end at the latest: a node that stands still is late by as much. */
function latest(world: World, node: TestNode, deadline: Millis): Millis {
  let at = deadline + LATE;
  for (const stall of world.stalls) if (stall.node === node && stall.from <= at) at = Math.max(at, stall.to + LATE);
  return at;
}

const PATIENCE_ENDED: ReadonlySet<string> = new Set([
  "agent-offline",
  "deadline",
  "not-owner",
  "node-gone",
  "draining",
  "busy",
]);

/** I8: it was not given up although a connection was there all the time. */
function checkReached(world: World, request: SimulatedRequest): void {
  const { id, at, deadline, agent, ingress, ends, executions, plan } = request;
  const [end] = ends;
  if (!end || executions.length > 0 || plan.answer === "refuse" || !PATIENCE_ENDED.has(end.outcome)) return;
  if (end.at - at < REACHABLE_FOR && end.at >= deadline) return;
  const from = end.at - REACHABLE_FOR;
  const early = end.outcome === "agent-offline" && end.at < deadline;
  if (!world.network.isCalm(early ? end.at - SEEN_WITHIN : from, end.at)) return;
  const seen = world.connections.find((c) => c.pod.agent === agent && c.to >= end.at - SEEN_WITHIN && c.from < end.at);
  if (early && seen)
    world.violation(`I8 ${id} was given up early though agent ${agent} was just seen on ${seen.node.id}`);
  // A frozen link takes requests and says nothing until it is known to be dead.
  if (world.connections.some((c) => c.pod.agent === agent && c.frozen && c.from <= end.at && c.to >= from)) return;
  const there = world.connections.find((c) => c.pod.agent === agent && c.from <= from && c.to >= end.at);
  if (there)
    world.violation(`I8 ${id} via ${ingress.id} ended ${end.outcome} while ${there.node.id}#${there.id} was up`);
}
