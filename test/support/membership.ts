/** One membership actor under a virtual clock that has joined, and the heartbeats that it hears. */
import type { NodeId, NodeName } from "../../actors/ids.ts";
import { createMembership } from "../../actors/membership.ts";
import type { Announced, Heartbeat, MembershipSettings } from "../../actors/view.ts";
import { ROUTING_DEFAULTS } from "../../src/cluster/routing-settings.ts";
import { simulate } from "./simulate.ts";

const settings = ROUTING_DEFAULTS.membership;
let seq = 0;

/** Node `a.5`, up. */
export const joinedNode = (changes: Partial<MembershipSettings> = {}) =>
  simulate(createMembership({ ...settings, ...changes }, "a" as NodeName, 5, "", 1))
    .tell({ type: "join" })
    .advance(1_500);

export type MembershipSim = ReturnType<typeof joinedNode>;

/** Each is newer than all before it. */
export const heartbeat = (state: Announced = "up", changes: Partial<Heartbeat> = {}): Heartbeat => {
  seq++;
  return { seq, state, hello: false, address: "b:1", connections: 0, view: 0, nats: true, ...changes };
};

export const hear = (
  sim: MembershipSim,
  from: NodeId,
  state: Announced = "up",
  changes: Partial<Heartbeat> = {},
): MembershipSim => sim.tell({ type: "heartbeat", from, heartbeat: heartbeat(state, changes) });
