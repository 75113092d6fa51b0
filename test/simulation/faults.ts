/** What goes wrong in a simulated world, one fault at a time; several may overlap. */
import type { Millis } from "../../actors/actor.ts";
import type { Wire } from "../support/wire.ts";
import type { Pod } from "./agents.ts";
import { BUSY, type World } from "./world.ts";

type Fault = (world: World, name: string, pod: Pod) => void;

const FAULTS: readonly Fault[] = [
  (world, name) => world.crash(name),
  (world, name) => world.crash(name),
  (world, name) => world.drain(name),
  (world) => world.network.partition(),
  (world, name) => world.network.deafen(name),
  (world, name) => world.network.deafen(name),
  (world, name) => world.network.silence(name, false),
  (world, name) => world.network.silence(name, true),
  unplug,
  reconnect,
  stall,
  (world) => outage(world, 1_000 + world.roll(12_000)),
  peerStall,
  peerCut,
  peerCut,
  agentStall,
  agentSilence,
  agentCut,
  agentCut,
  agentHalfOpen,
  agentHalfOpen,
  (world, _, pod) => agentRestart(world, pod, true),
  (world, _, pod) => agentRestart(world, pod, false),
  (world, _, pod) => agentLeave(world, pod),
  (world, _, pod) => agentFreeze(world, pod),
];

export function fault(world: World): void {
  const name = world.names[world.roll(world.names.length)];
  const pod = world.pods[world.roll(world.pods.length)];
  if (name && pod) FAULTS[world.roll(FAULTS.length)]?.(world, name, pod);
}

/** The node loses its bus; its peer links stay. */
function unplug(world: World, name: string): void {
  const node = world.node(name);
  if (!node?.messenger.connected) return;
  const lasts = 500 + world.roll(15_000);
  world.network.disturbed(lasts);
  world.trace(`unplug ${node.id}`);
  node.messenger.connect(false);
  world.after(lasts, () => node.alive && !world.busAway && node.messenger.connect(true));
}

/** Its client was cut off without noticing: what it sent and should have got is lost, then it is connected anew. */
function reconnect(world: World, name: string): void {
  const node = world.node(name);
  if (!node?.messenger.connected) return;
  const lasts = 200 + world.roll(6_000);
  world.trace(`reconnect ${node.id}`);
  world.network.unread(name, lasts);
  world.after(lasts, () => {
    if (!node.alive || !node.messenger.connected) return;
    node.messenger.connect(false);
    world.after(50, () => node.alive && !world.busAway && node.messenger.connect(true));
  });
}

/** Its event loop does nothing for a while. */
function stall(world: World, name: string): void {
  const node = world.node(name);
  if (!node) return;
  const lasts = 300 + world.roll(6_000);
  world.trace(`stall ${node.id} ${lasts}`);
  world.network.disturbed(lasts);
  const from = world.now();
  world.stalls.push({ node, from, to: from + lasts });
  world.cluster.stall(node, lasts);
}

// ---- links

const side = (world: World): 0 | 1 => (world.chance(0.5) ? 0 : 1);

function peerWire(world: World): Wire | undefined {
  for (const wire of world.peerWires) if (wire.isOver || wire.vanished) world.peerWires.delete(wire);
  return [...world.peerWires][world.roll(world.peerWires.size)];
}

/** A direction of a peer link takes nothing for a while. */
function peerStall(world: World): void {
  const lasts = 200 + world.roll(6_000);
  const wire = peerWire(world);
  if (!wire) return;
  world.trace(`peer link stalled ${lasts}`);
  world.network.disturbed(lasts);
  wire.ends[side(world)].stall(world.now() + lasts);
}

/** Soon, after any byte; at the latest in a while. */
function cut(world: World, wire: Wire): void {
  wire.cut(side(world), world.roll(world.chance(0.7) ? 2_000 : 200_000));
  world.after(world.roll(3_000), () => wire.cut(side(world), 0));
}

function peerCut(world: World): void {
  const wire = peerWire(world);
  if (!wire) return;
  world.trace("peer link cut");
  world.network.disturbed(3_000);
  cut(world, wire);
}

const agentLink = (world: World, pod: Pod) =>
  world.liveConnections().find((connection) => connection.pod === pod && !connection.frozen);

function agentStall(world: World, _: string, pod: Pod): void {
  const lasts = 200 + world.roll(6_000);
  const connection = agentLink(world, pod);
  if (!connection) return;
  world.trace(`agent link stalled ${connection.holder}#${connection.id} ${lasts}`);
  world.network.disturbed(lasts);
  connection.wire.ends[side(world)].stall(world.now() + lasts);
}

function agentSilence(world: World, _: string, pod: Pod): void {
  const lasts = 200 + world.roll(8_000);
  const connection = agentLink(world, pod);
  if (!connection) return;
  world.trace(`agent link silent ${connection.holder}#${connection.id} ${lasts}`);
  world.network.disturbed(lasts);
  connection.wire.ends[side(world)].silence(world.now() + lasts);
}

function agentCut(world: World, _: string, pod: Pod): void {
  const connection = agentLink(world, pod);
  if (!connection) return;
  world.trace(`agent link cut ${connection.holder}#${connection.id}`);
  cut(world, connection.wire);
}

/** Where most of the streams are. */
export function cutBusy(world: World): void {
  const busy = world.pods.filter(({ agent }) => agent === BUSY);
  const pod = busy[world.roll(busy.length)];
  if (pod) agentCut(world, "", pod);
}

function agentHalfOpen(world: World, _: string, pod: Pod): void {
  const connection = agentLink(world, pod);
  if (connection) world.halfOpen(connection);
}

// ---- agents

/** `unseen`: the old link stays open at its holder. */
function agentRestart(world: World, pod: Pod, unseen: boolean): void {
  world.trace(`restart ${pod.name}${unseen ? " unseen" : ""}`);
  for (const connection of world.liveConnections()) if (connection.pod === pod) connection.frozen = true;
  pod.restart(unseen, 1_000 + world.roll(3_000));
}

function agentLeave(world: World, pod: Pod): void {
  world.trace(`leave ${pod.name}`);
  pod.leave(200 + world.roll(4_000), world.roll(5_000));
}

/** SIGSTOP, and SIGCONT. */
function agentFreeze(world: World, pod: Pod): void {
  const { process } = pod;
  if (!process) return;
  const lasts = 300 + world.roll(8_000);
  world.trace(`freeze ${pod.name} ${lasts}`);
  world.network.disturbed(lasts);
  process.stalledUntil = Math.max(process.stalledUntil, world.now() + lasts);
}

/**
 * Nobody has a bus. Only its beginning and its end count as a disturbance, for links carry what the bus did; but nodes that
 * did not know each other by then cannot find each other.
 */
export function outage(world: World, lasts: Millis): void {
  if (world.busAway) return;
  world.trace(`outage ${lasts}`);
  world.busAway = true;
  world.network.disturbed(knowEachOther(world) ? 1_000 : lasts);
  for (const node of world.alive()) if (node.messenger.connected) node.messenger.connect(false);
  world.after(lasts, () => {
    if (!world.busAway) return;
    world.busAway = false;
    world.network.disturbed(1_000);
    world.trace("outage over");
    for (const node of world.alive()) {
      world.after(world.roll(2_000), () => node.alive && !node.messenger.connected && node.messenger.connect(true));
    }
  });
}

function knowEachOther(world: World): boolean {
  const up = world.alive();
  return up.every(({ routing }) => {
    const known = new Set(routing.members().map(({ node }) => node));
    return up.every(({ id }) => known.has(id));
  });
}
