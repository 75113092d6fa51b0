/** The routing plane as its users see it: a cluster of one, then several over a messenger that behaves. */
import { describe, expect, it } from "vitest";
import type { AgentId } from "../../actors/ids.ts";
import { Cluster, local, outcomeOf } from "../support/cluster.ts";

const agent = 7 as AgentId;

describe("a cluster of one", () => {
  it("routes a request to its own connection before `request` returns", async () => {
    const cluster = new Cluster();
    const node = cluster.start("a", { alone: true });
    await node.routing.join();
    const connection = node.routing.connected(local(agent));

    const request = outcomeOf(node, agent);

    expect(request.attempts).toEqual([{ number: 1, node: node.routing.self, prefer: connection, exclude: [] }]);
    expect(node.routing.take(agent, connection, [])).toBe(connection);
    request.control.report(1, { type: "accepted" });
    request.control.report(1, { type: "done" });
    node.routing.released(connection);
    expect(node.routing.counts()).toMatchObject({
      requests: 0,
      parked: 0,
      watches: 0,
      asks: 0,
      entries: 1,
      members: 1,
    });
  });

  it("says that a connection is registered, on a later turn and once", async () => {
    const cluster = new Cluster();
    const node = cluster.start("a", { alone: true });
    await node.routing.join();
    const connection = node.routing.connected(local(agent));

    expect(node.registered).toEqual([]);
    cluster.advance(2_000);
    expect(node.registered).toEqual([connection]);
  });

  it("parks a request for an absent agent and carries it the moment the agent connects", async () => {
    const cluster = new Cluster();
    const node = cluster.start("a", { alone: true });
    await node.routing.join();
    const request = outcomeOf(node, agent);
    cluster.advance(5_000);
    expect(request.attempts).toEqual([]);
    expect(node.routing.counts().parked).toBe(1);

    const connection = node.routing.connected(local(agent));

    expect(request.attempts).toMatchObject([{ prefer: connection }]);
  });

  it("fails at its deadline with agent-offline and leaves nothing behind", async () => {
    const cluster = new Cluster();
    const node = cluster.start("a", { alone: true });
    await node.routing.join();
    const request = outcomeOf(node, agent, { acceptWithin: 2_000 });

    cluster.advance(1_999);
    expect(request.failures).toEqual([]);
    cluster.advance(11);
    expect(request.failures).toMatchObject([{ code: "agent-offline" }]);
    cluster.advance(10_000);
    expect(node.routing.counts()).toMatchObject({ requests: 0, parked: 0, watches: 0, asks: 0 });
  });

  it("fails at once for an agent that nobody saw, once its index is 30 s old", async () => {
    const cluster = new Cluster();
    const node = cluster.start("a", { alone: true });
    await node.routing.join();
    cluster.advance(30_001);

    expect(outcomeOf(node, agent).failures).toMatchObject([{ code: "agent-offline" }]);
  });

  it("waits for an agent that left a moment ago, and says when and where it was seen", async () => {
    const cluster = new Cluster();
    const node = cluster.start("a", { alone: true });
    await node.routing.join();
    const connection = node.routing.connected(local(agent));
    cluster.advance(60_000);
    node.routing.disconnected(connection);
    const request = outcomeOf(node, agent);
    expect(request.failures).toEqual([]);

    cluster.advance(20_010);
    expect(request.failures[0]?.reason).toMatch(/Agent 7 did not connect within 20 s \(last seen \d\d:\d\d UTC on a\)/);
    cluster.advance(150_000);
    expect(outcomeOf(node, agent).failures).toMatchObject([{ code: "agent-offline" }]);
  });

  it("ends every timer when it leaves", async () => {
    const cluster = new Cluster();
    const node = cluster.start("a", { alone: true });
    await node.routing.join();
    const request = outcomeOf(node, agent);
    await node.routing.leave();

    expect(request.failures).toMatchObject([{ code: "draining" }]);
    expect(cluster.clock.pending).toBe(0);
    expect(cluster.sent).toBe(0);
  });

  it("refuses what comes over its links after it left, with proof that another node may serve it", async () => {
    const cluster = new Cluster();
    const node = cluster.start("a", { alone: true });
    await node.routing.join();
    node.routing.connected(local(agent));

    await node.routing.leave();

    expect(node.routing.take(agent, 0, [])).toMatchObject({ code: "draining" });
  });

  it("closes every connection when the actor that holds them throws, and serves on", async () => {
    const cluster = new Cluster();
    const node = cluster.start("a", { alone: true });
    await node.routing.join();
    const first = node.routing.connected(local(agent));
    const poison = node.routing.connected(local(agent, { lost: null as never }));
    expect(node.logged).toHaveLength(1);
    expect(node.superseded).toEqual([first, poison]);
    expect(node.routing.take(agent, first, [])).toMatchObject({ code: "not-owner" });
    for (const connection of node.superseded) node.routing.disconnected(connection);
    expect(node.routing.counts().entries).toBe(0);

    const next = node.routing.connected(local(agent, { link: 2 }));
    expect(outcomeOf(node, agent).attempts).toMatchObject([{ prefer: next }]);
  });

  it("rejects a join that a stop overtakes", async () => {
    const cluster = new Cluster();
    const node = cluster.start("a");
    const joining = node.routing.join();
    await node.routing.leave();
    await expect(joining).rejects.toMatchObject({ failure: { code: "draining" } });
    expect(cluster.clock.pending).toBe(0);
  });
});
