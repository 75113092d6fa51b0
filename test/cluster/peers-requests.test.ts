/** Requests on their way to another member: what becomes of them when its link refuses, freezes or is lost. */
import { describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import type { AgentId } from "../../actors/ids.ts";
import { encodeOpen } from "../../src/link/messages.ts";
import { StreamCluster } from "../support/stream-cluster.ts";
import { accepts, answers, call, Heard, request, turns } from "../support/streams.ts";

describe("requests over peer links", () => {
  const agent = 7 as AgentId;

  it("move to another holder at once when the peer refuses, and are carried once", async () => {
    const [cluster, a, second, third] = await StreamCluster.of("a", "b", "c");
    if (!a || !second || !third) throw new RangeError("no nodes");
    await using _all = cluster;
    for (let i = 0; i < 4; i++) await second.agent(agent, answers("from b"));
    await third.agent(agent, answers("from c"));
    await cluster.pass(1_000);
    second.sockets = "refused";
    a.wires.get(second.id)?.cutAfter(0);
    const calls = Array.from({ length: 8 }, () => call(a.router, agent, {}, "x"));
    await cluster.until(() => calls.every(({ heard }) => heard.isOver), 1_500);
    expect(new Set(calls.map(({ heard }) => heard.body.toString()))).toEqual(new Set(["from c"]));
    expect(cluster.served).toHaveLength(8);
    // The node is left out as a whole, not one connection of it after the other.
    for (const { stream } of calls) expect(stream.route?.attempts).toBeLessThanOrEqual(2);
    cluster.expectQuiet();
  });

  it("move on from a frozen node within seconds", async () => {
    const [cluster, a, second, third] = await StreamCluster.of("a", "b", "c");
    if (!a || !second || !third) throw new RangeError("no nodes");
    await using _all = cluster;
    await second.agent(agent, answers("from b"));
    await cluster.pass(1_000);
    second.sockets = "unanswered";
    a.wires.get(second.id)?.cutAfter(0);
    const { heard } = call(a.router, agent, {}, "x");
    await cluster.pass(500);
    await third.agent(agent, answers("from c"));
    await cluster.until(() => heard.isOver, 4_000);
    expect(heard.body.toString()).toBe("from c");
  });

  it("that were cancelled while they waited for a dial leave nothing, and are never sent", async () => {
    const [cluster, a, second] = await StreamCluster.of("a", "b");
    if (!a || !second) throw new RangeError("no nodes");
    await using _all = cluster;
    await second.agent(agent, answers());
    await cluster.pass(1_000);
    a.wires.get(second.id)?.cutAfter(0);
    await turns(3);
    const cancelled = failure("cancelled", "");
    call(a.router, agent).stream.reset({ failure: cancelled, unprocessed: false });
    const timers = cluster.cluster.clock.pending;
    const { heard, stream } = call(a.router, agent, {}, "x");
    await turns(3);
    expect(cluster.cluster.clock.pending).toBeGreaterThan(timers);
    stream.reset({ failure: failure("cancelled", ""), unprocessed: false });
    expect(heard.told).toEqual(["closed"]);
    expect(cluster.cluster.clock.pending).toBe(timers);
    await cluster.pass(1_000);
    expect([cluster.served.length, a.meter.opens.length]).toEqual([0, 0]);
    expect(a.meter.unrouteds).toEqual(["cancelled", "cancelled"]);
    cluster.expectQuiet();
  });

  it("that may have reached the agent end as outcome-unknown when the peer link is lost; the agent hears of it", async () => {
    const [cluster, a, second] = await StreamCluster.of("a", "b");
    if (!a || !second) throw new RangeError("no nodes");
    await using _all = cluster;
    await second.agent(agent, accepts);
    await cluster.pass(1_000);
    const { heard } = call(a.router, agent, {}, "x");
    await cluster.until(() => heard.told.includes("accepted"));
    a.wires.get(second.id)?.cutAfter(0);
    await cluster.until(() => heard.isOver && cluster.served[0]?.isOver === true);
    expect(heard.told).toEqual(["accepted", "reset outcome-unknown", "closed"]);
    cluster.expectQuiet();
  });

  it("whose OPEN never left when the link was lost are tried again, whatever their method", async () => {
    const [cluster, a, second] = await StreamCluster.of("a", "b");
    if (!a || !second) throw new RangeError("no nodes");
    await using _all = cluster;
    await second.agent(agent, answers());
    await cluster.pass(1_000);
    call(a.router, agent).stream.reset({ failure: failure("cancelled", ""), unprocessed: false });
    const { heard } = call(a.router, agent, {}, "once");
    await null; // the attempt is made, and nothing left our scheduler
    await null;
    expect(a.meter.opens.length).toBeGreaterThan(0);
    a.wires.get(second.id)?.cutAfter(0);
    await cluster.until(() => heard.isOver);
    expect([heard.told.at(-2), cluster.served.length]).toEqual(["end", 1]);
  });

  it("are executed or refused by the holder, never routed on", async () => {
    const [cluster, a, second, third] = await StreamCluster.of("a", "b", "c");
    if (!a || !second || !third) throw new RangeError("no nodes");
    await using _all = cluster;
    await third.agent(agent, answers());
    await cluster.pass(1_000);
    const heard = new Heard();
    const { trace: _, ...rest } = request(agent);
    const own = { requestId: "r" as never, prefer: 0 as const, exclude: [], traceparent: "", tracestate: "" };
    a.peers.link(second.id)?.open(encodeOpen({ ...rest, ...own }), heard, 0);
    await turns();
    expect(heard.told).toEqual(["reset not-owner", "closed"]);
    expect(heard.ending?.unprocessed).toBe(true);
    expect([cluster.served.length, second.inbound.opened, second.meter.opens.length]).toEqual([0, 0, 0]);
  });
});
