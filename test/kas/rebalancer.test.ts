/** When a node asks agents to connect anew: for balance, for age, at an operator's word, and when it must not. */
import { afterEach, expect, it } from "vitest";
import type { NodeId } from "../../actors/ids.ts";
import type { Member } from "../../src/cluster/routing.ts";
import { Rebalancer } from "../../src/kas/rebalancer.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const self = "a.1" as NodeId;
const member = (node: string, connections: number, state: Member["state"] = "alive"): Member => ({
  node: node as NodeId,
  state,
  address: "",
  connections,
});

class Node {
  readonly clock = new VirtualClock();
  readonly routing = {
    self,
    phase: "up" as "up" | "joining" | "draining",
    bus: { awayFor: 0, othersHaveIt: false },
    all: [member(self, 100), member("b.1", 0)],
    members: () => this.routing.all,
  };
  asked = 0;
  old = 0;
  renewed: number[] = [];
  readonly rebalancer = new Rebalancer({
    clock: this.clock,
    log: { info() {}, error: (text) => expect.fail(text) },
    routing: this.routing,
    moves: {
      spread: (count) => {
        this.asked += count;
        return count;
      },
      renew: (_limit, most) => {
        const now = Math.min(this.old, most);
        this.old -= now;
        if (now > 0) this.renewed.push(now);
        return now;
      },
    },
    perSecond: 20,
    after: 5_000,
    maxConnectionAge: 7_200_000,
  });

  /** Asked in these seconds, while the counts stay as they are. */
  during(seconds: number): number {
    const before = this.asked;
    this.clock.advance(seconds * 1_000);
    return this.asked - before;
  }
}

let node = new Node();
afterEach(() => {
  node.rebalancer[Symbol.dispose]();
  expect(node.clock.pending).toBe(0);
  node = new Node();
});

it("asks agents to go when this node has held more than its share for a while, at its part of the rate", () => {
  expect(node.during(5)).toBe(0);
  expect(node.during(3)).toBeGreaterThan(0);
  expect(node.asked).toBeLessThanOrEqual(30);
});

it("asks nobody while it joins, drains, is cut off NATS, or does not know whether another node lives", () => {
  node.routing.phase = "draining";
  expect(node.during(60)).toBe(0);
  node.routing.phase = "joining";
  expect(node.during(60)).toBe(0);
  node.routing.phase = "up";
  node.routing.bus = { awayFor: 1, othersHaveIt: false };
  expect(node.during(60)).toBe(0);
  node.routing.bus = { awayFor: 0, othersHaveIt: false };
  node.routing.all = [member(self, 100), member("b.1", 0), member("c.1", 0, "suspect")];
  expect(node.during(60)).toBe(0);
  node.routing.all = [member(self, 100), member("b.1", 0)];
  expect(node.during(10)).toBeGreaterThan(0);
});

it("does not count nodes that take no agents", () => {
  node.routing.all = [member(self, 100), member("b.1", 0, "draining"), member("c.1", 0, "joining")];
  expect(node.during(60)).toBe(0);
});

it("begins at once when an operator says so, and tells what it will do", () => {
  expect(node.rebalancer.now()).toEqual({ node: self, connections: 100, mean: 50, tooMany: 50 });
  expect(node.during(2)).toBeGreaterThan(0);
  node.routing.phase = "draining";
  expect(node.rebalancer.now()).toMatchObject({ tooMany: 0 });
  expect(node.during(60)).toBe(0);
});

it("goes on with what it began, or was told, once it knows again what the others hold", () => {
  node.routing.all = [member(self, 100), member("b.1", 0, "suspect")];
  node.rebalancer.now();
  expect(node.during(10)).toBe(0);
  node.routing.all = [member(self, 100), member("b.1", 0)];
  expect(node.during(2)).toBeGreaterThan(0);
});

it("asks agents of old connections, no more than its part of the rate each second, also when it is alone", () => {
  node.old = 25;
  node.during(3);
  expect(node.renewed).toEqual([10, 10, 5]);
  node.routing.all = [member(self, 100)];
  node.old = 25;
  node.during(2);
  expect(node.renewed.slice(3)).toEqual([20, 5]);
  node.routing.phase = "draining";
  node.old = 25;
  expect([node.during(10), node.old]).toEqual([0, 25]);
});
