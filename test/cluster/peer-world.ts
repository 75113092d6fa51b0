/** One node's links to its peers in virtual time: each dial meets what the test says, and nothing may be left at the end. */
import { expect } from "vitest";
import { type Failure, failure } from "../../actors/failure.ts";
import type { NodeId } from "../../actors/ids.ts";
import { createPeers, type Dial, type Peers } from "../../src/cluster/peers.ts";
import type { Member } from "../../src/cluster/routing.ts";
import { failed } from "../../src/failed.ts";
import { checkPeer, helloOf } from "../../src/kas/greeting.ts";
import { type MemoryCarrier, memoryCarriers } from "../../src/link/carriers/memory.ts";
import type { Link, LinkLimits } from "../../src/link/link.ts";
import { openLink } from "../../src/link/multiplexer.ts";
import { Served, turns } from "../support/streams.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

export const self = "a.1" as NodeId;
export const b = "b.1" as NodeId;
export const member = (node: NodeId, address = "b:8155"): Member => ({ node, state: "alive", address, connections: 0 });
const us = { cluster: "default", self, version: "test" };
const them = { ...us, self: b };

type World = {
  readonly peers: Peers;
  readonly clock: VirtualClock;
  readonly dials: { readonly address: string; readonly at: number }[];
  readonly told: string[];
  readonly accepted: Link[];
  readonly wires: MemoryCarrier[];
  /** What a dial meets from now on. */
  meets: "kas" | "refusal" | "silence" | "a frozen kas" | "nonsense" | "a stranger";
  limits: Partial<LinkLimits>;
};

export function world(): World {
  const clock = new VirtualClock();
  const dials: World["dials"] = [];
  const told: string[] = [];
  const accepted: Link[] = [];
  const wires: MemoryCarrier[] = [];
  const serve = (carrier: MemoryCarrier, identity: typeof us) =>
    accepted.push(
      openLink({
        clock,
        carrier,
        role: "acceptor",
        hello: helloOf(identity),
        check: (theirs) => checkPeer(identity, theirs, null),
        events: {
          up() {},
          open: (_payload, stream) => {
            const served: Served = new Served({} as never, stream, "b", () => served.answer());
            return served;
          },
          ready() {},
          drain() {},
          ctl() {},
          closed() {},
        },
      }),
    );
  const dial: Dial = (address, done) => {
    dials.push({ address, at: clock.now() });
    if (made.meets === "nonsense") throw failed("invalid", "no address");
    const met = made.meets;
    let over = false;
    setImmediate(() => {
      if (over || met === "silence") return;
      if (met === "refusal") {
        done(failure("node-gone", "connection refused"));
        return;
      }
      const [ours, theirs] = memoryCarriers();
      wires.push(ours);
      if (met !== "a frozen kas") serve(theirs, met === "a stranger" ? { ...them, self: "x.1" as NodeId } : them);
      done(ours);
    });
    return {
      [Symbol.dispose]() {
        over = true;
        told.push("dial given up");
      },
    };
  };
  const peers = createPeers({
    self,
    clock,
    random: () => 0.999,
    dial,
    openLink: (options) => openLink({ ...options, limits: made.limits }),
    hello: () => helloOf(us),
    check: (node) => (theirs) => checkPeer(us, theirs, node),
    secrets: [],
    heard: (node) => told.push(`heard ${node}`),
    refused: (node) => told.push(`refused ${node}`),
    events: () => ({
      open: () => {
        throw failed("protocol", "nothing is opened here");
      },
      ctl() {},
      fault() {},
    }),
  });
  const made: World = { peers, clock, dials, told, accepted, wires, meets: "kas", limits: {} };
  return made;
}

export async function pass(w: World, by: number, step = 50): Promise<void> {
  for (let left = by; left > 0; left -= step) {
    w.clock.advance(Math.min(step, left));
    await turns(8);
  }
}

/** Nothing may be left once they are disposed. */
export async function leave(w: World): Promise<void> {
  w.peers[Symbol.dispose]();
  await turns(20);
  for (const link of w.accepted) link.destroy(failure("cancelled", "the test is over"));
  await turns(20);
  expect(w.clock.pending).toBe(0);
  expect(w.wires.filter(({ closed }) => !closed)).toEqual([]);
}

export function ask(w: World, node = b) {
  const answers: (Link | Failure)[] = [];
  const waiting = w.peers.use(node, (answer) => answers.push(answer));
  return { answers, waiting };
}

export const codes = (answers: readonly (Link | Failure)[]) => answers.map((a) => ("code" in a ? a.code : "link"));
