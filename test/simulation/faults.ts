/** What goes wrong in a simulated world, one fault at a time; several may overlap. */
import type { Millis } from "../../actors/actor.ts";
import type { Replica, World } from "./world.ts";

type Fault = (world: World, name: string, replica: Replica) => void;

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
  (world, _, replica) => world.breakLink(replica),
  (world, _, replica) => world.halfOpen(replica),
  (world, _, replica) => world.halfOpen(replica),
  (world, _, replica) => world.restart(replica),
];

export function fault(world: World): void {
  const name = world.names[world.roll(world.names.length)];
  const replica = world.replicas[world.roll(world.replicas.length)];
  if (name && replica) FAULTS[world.roll(FAULTS.length)]?.(world, name, replica);
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
