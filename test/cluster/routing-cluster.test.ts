/** Several nodes over a lossy messenger: joining, finding agents elsewhere, dying, being cut off. */
import { describe, expect, it } from "vitest";
import type { AgentId } from "../../actors/ids.ts";
import { Cluster, local, outcomeOf, type TestNode } from "../support/cluster.ts";

const agent = 7 as AgentId;

function clusterOf(...names: string[]): { cluster: Cluster; nodes: TestNode[] } {
  const cluster = new Cluster();
  const nodes = names.map((name) => cluster.start(name));
  for (const node of nodes) node.routing.join();
  cluster.advance(2_000);
  return { cluster, nodes };
}

const trio = () => {
  const { cluster, nodes } = clusterOf("a", "b", "c");
  const [a, b, c] = nodes;
  if (!a || !b || !c) throw new Error("three nodes were started");
  return { cluster, a, b, c };
};

describe("membership over a messenger", () => {
  it("gives every node the same view within its join window", () => {
    const { a, b, c } = trio();
    for (const node of [a, b, c]) {
      expect(node.routing.phase).toBe("up");
      expect(node.routing.members().map((m) => m.state)).toEqual(["alive", "alive", "alive"]);
      expect(node.routing.view).toBe(a.routing.view);
    }
  });

  it("lets a late node learn everyone in one round trip", () => {
    const { cluster } = trio();
    const d = cluster.start("d");
    d.routing.join();
    cluster.advance(120);
    expect(d.routing.members()).toHaveLength(4);
  });

  it("refuses to join under a name that is alive", async () => {
    const { cluster, a } = trio();
    const twin = cluster.start("a");
    const joining = twin.routing.join();
    cluster.advance(2_000);
    await expect(joining).rejects.toMatchObject({
      failure: { code: "invalid", reason: expect.stringContaining('"a"') },
    });
    expect(a.deposed).toEqual([]);
  });

  it("replaces a silent predecessor when the same name starts again", () => {
    const { cluster, a, b } = trio();
    cluster.crash(b);
    cluster.advance(100);
    const again = cluster.start("b");
    again.routing.join();
    cluster.advance(1_700);
    const members = a.routing.members().map((m) => m.node);
    expect(members).toContain(again.id);
    expect(members).not.toContain(b.id);
  });

  it("takes a refused link and an unread inbox as death within a second", () => {
    const { cluster, a, b } = trio();
    cluster.crash(b);
    a.routing.peerRefused(b.id);
    cluster.advance(100);
    expect(a.routing.members().map((m) => m.node)).not.toContain(b.id);
  });

  it("forgets a node the moment it leaves", () => {
    const { cluster, a, b } = trio();
    b.routing.leave();
    cluster.advance(5);
    expect(a.routing.members()).toHaveLength(2);
  });

  it("takes a higher incarnation when others remember one, or fails to join when it may not", async () => {
    const { cluster, b } = trio();
    cluster.crash(b);
    cluster.advance(20_000);
    const later = cluster.start("b");
    later.routing.join();
    cluster.advance(2_000);
    later.routing.leave();
    cluster.advance(10);
    const behind = cluster.start("b", { incarnation: 5 });
    const joining = behind.routing.join();
    cluster.advance(2_000);
    await expect(joining).rejects.toMatchObject({ failure: { reason: expect.stringContaining("clock") } });
  });
});

describe("a request in a cluster", () => {
  it("finds an agent on another node by one lookup, and without any from then on", () => {
    const { cluster, a, b } = trio();
    const connection = b.routing.connected(local(agent));
    cluster.advance(100);
    const first = outcomeOf(a, agent);
    cluster.advance(10);
    expect(first.attempts).toMatchObject([{ node: b.id, prefer: connection }]);
    first.control.report(1, { type: "accepted" });
    first.control.report(1, { type: "done" });
    const before = cluster.sent;
    expect(outcomeOf(a, agent).attempts).toMatchObject([{ node: b.id }]);
    expect(cluster.sent).toBe(before);
  });

  it("says a connection is registered once its homes acknowledged it", () => {
    const { cluster, b } = trio();
    const connection = b.routing.connected(local(agent));
    cluster.advance(40);
    expect(b.registered).toEqual([connection]);
    cluster.advance(5_000);
    expect(b.registered).toEqual([connection]);
  });

  it("asks once for many requests of one agent", () => {
    const { cluster, a, b } = trio();
    b.routing.connected(local(agent));
    cluster.advance(100);
    const before = cluster.sent;
    const burst = Array.from({ length: 500 }, () => outcomeOf(a, agent));
    cluster.advance(20);
    expect(burst.every((request) => request.attempts.length === 1)).toBe(true);
    expect(cluster.sent - before).toBeLessThan(15);
  });

  it("is carried within a few ms of the agent's connection anywhere", () => {
    const { cluster, a, c } = trio();
    const request = outcomeOf(a, agent);
    cluster.advance(3_050);
    c.routing.connected(local(agent));
    cluster.advance(30);
    expect(request.attempts).toMatchObject([{ node: c.id }]);
  });

  it("is refused as busy beyond 64 that wait for one agent", () => {
    const { cluster, a } = trio();
    const waiting = Array.from({ length: 70 }, () => outcomeOf(a, agent));
    cluster.advance(200);
    expect(waiting.flatMap((request) => request.failures)).toHaveLength(6);
    expect(waiting.at(-1)?.failures).toMatchObject([{ code: "busy" }]);
    expect(a.routing.counts().parked).toBe(64);
  });

  it("fails as cluster-unavailable without its bus, unless the agent is here or was used before", () => {
    const { cluster, a, b } = trio();
    b.routing.connected(local(agent));
    b.routing.connected(local(8 as AgentId));
    a.routing.connected(local(9 as AgentId));
    cluster.advance(100);
    outcomeOf(a, agent);
    cluster.advance(10);
    a.messenger.connect(false);
    cluster.advance(120_000);
    expect(outcomeOf(a, agent).attempts).toHaveLength(1);
    expect(outcomeOf(a, 9 as AgentId).attempts).toHaveLength(1);
    const unknown = outcomeOf(a, 10 as AgentId);
    cluster.advance(2_000);
    expect(unknown.failures).toMatchObject([{ code: "cluster-unavailable" }]);
  });

  it("leaves nothing behind when its caller goes", () => {
    const { cluster, a } = trio();
    const request = outcomeOf(a, agent);
    cluster.advance(500);
    request.control.cancel();
    cluster.advance(8_000);
    for (const node of cluster.nodes.values()) {
      expect(node.routing.counts()).toMatchObject({ requests: 0, parked: 0, watches: 0, asks: 0 });
    }
  });

  it("is explained: who is home, what is known, what would happen", async () => {
    const { cluster, a, b } = trio();
    b.routing.connected(local(agent));
    cluster.advance(100);
    const explaining = a.routing.explain(agent);
    cluster.advance(500);
    const { homes, connections, verdict, missing } = await explaining;
    expect(homes).toHaveLength(2);
    expect(connections).toContainEqual({ node: b.id, connection: 1, from: "home" });
    expect(missing).toEqual([]);
    expect(verdict).toContain(b.id);
  });
});

describe("generations", () => {
  it("closes an older process of the same pod on another node", () => {
    const { cluster, a, b } = trio();
    const old = a.routing.connected(local(agent));
    cluster.advance(1_000);
    b.routing.connected(local(agent, { process: "p2" }));
    cluster.advance(100);
    expect(a.superseded).toEqual([old]);
    expect(a.routing.take(agent, old, [])).toMatchObject({ code: "not-owner" });
    expect(b.superseded).toEqual([]);
  });
});

describe("registrations", () => {
  it("are exact again soon after a holder believed its home dead, however long their channel was", () => {
    const { cluster, nodes } = clusterOf("a", "b");
    const [a, b] = nodes;
    if (!a || !b) throw new Error("two nodes were started");
    const connections = Array.from({ length: 60 }, (_, i) => {
      cluster.advance(20);
      return a.routing.connected(local((100 + i) as AgentId));
    });
    cluster.advance(100);
    expect(b.routing.counts().entries).toBe(60);
    cluster.weather = (from) => (from === b.id ? [] : [1]);
    cluster.advance(12_000);
    expect(a.routing.members()).toHaveLength(1);
    for (const connection of connections) a.routing.disconnected(connection);
    a.routing.connected(local(agent));
    cluster.weather = () => [1];
    cluster.advance(4_000);
    expect(b.routing.counts().entries).toBe(1);
    const request = outcomeOf(b, agent);
    cluster.advance(5);
    expect(request.attempts).toMatchObject([{ node: a.id }]);
  });
});
