/** When a load balancer should send callers here: joined, not draining, and not alone without NATS. */
import { describe, expect, it } from "vitest";
import { Readiness } from "../../src/kas/readiness.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

function node() {
  const clock = new VirtualClock();
  const routing = { phase: "up" as "up" | "joining", bus: { awayFor: 0, othersHaveIt: false } };
  const readiness = new Readiness({ routing, nats: () => routing.bus.awayFor === 0, clock, natsAwayAfter: 10_000 });
  const changes: boolean[] = [];
  readiness.onChange(() => changes.push(readiness.ready()));
  readiness.changed();
  return { clock, routing, readiness, changes };
}

describe("readiness", () => {
  it("stays when NATS is away for all", () => {
    const { routing, readiness } = node();
    routing.bus = { awayFor: 3_600_000, othersHaveIt: false };
    expect(readiness.probe()).toMatchObject({ ready: true });
  });

  it("goes after 10 s without NATS while a peer says that it has it, and comes back with NATS; watchers hear both", () => {
    const { clock, routing, readiness, changes } = node();
    routing.bus = { awayFor: 9_999, othersHaveIt: true };
    expect(readiness.ready()).toBe(true);
    routing.bus = { awayFor: 10_000, othersHaveIt: true };
    expect(readiness.probe()).toMatchObject({ ready: false, phase: "isolated", reason: expect.stringMatching(/10 s/) });
    clock.advance(600);
    routing.bus = { awayFor: 0, othersHaveIt: true };
    clock.advance(600);
    expect(changes).toEqual([true, false, true]);
  });

  it("says that it waits for NATS while it joins, and nothing overrides a drain", () => {
    const { routing, readiness } = node();
    routing.phase = "joining";
    routing.bus = { awayFor: 1, othersHaveIt: false };
    expect(readiness.probe()).toMatchObject({ ready: false, phase: "joining", reason: expect.stringMatching(/NATS/) });
    routing.phase = "up";
    readiness.drain();
    expect(readiness.probe()).toMatchObject({ ready: false, phase: "draining" });
  });

  it("leaves no timer behind", () => {
    const { clock, readiness } = node();
    readiness[Symbol.dispose]();
    expect(clock.pending).toBe(0);
  });
});
