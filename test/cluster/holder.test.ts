/** The holder: whom it hands streams to, and an agent that carries one request per call behind the same interface. */
import { describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import type { AgentId, ConnectionId, RequestId } from "../../actors/ids.ts";
import { Failed } from "../../src/failed.ts";
import { encodeOpen, type Open } from "../../src/link/messages.ts";
import { CallPool } from "../support/call-pool.ts";
import { StreamCluster } from "../support/stream-cluster.ts";
import type { Kas } from "../support/stream-node.ts";
import { accepts, answers, type Behaviour, call, freezes, Heard, request, turns } from "../support/streams.ts";

const agent = 7 as AgentId;

const openOf = (changes: Partial<Open> = {}): Open => {
  const { trace: _, ...rest } = request(agent);
  const own = { requestId: "r" as RequestId, prefer: 0, exclude: [], traceparent: "", tracestate: "" } as const;
  return { ...rest, ...own, ...changes };
};

function open(kas: Kas, changes: Partial<Open> = {}, heard = new Heard()) {
  const asked = openOf(changes);
  const { stream, connection } = kas.holder.open(encodeOpen(asked), asked, heard);
  heard.stream = stream;
  return { heard, stream, connection };
}

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof Failed) return error.failure.code;
    throw error;
  }
  return "none";
}

async function alone() {
  const [cluster, kas] = await StreamCluster.of("a");
  if (!kas) throw new RangeError("no node");
  return { cluster, kas };
}

describe("a holder", () => {
  it("prefers the connection asked for, never one that is excluded, and refuses when none is left", async () => {
    const { cluster, kas } = await alone();
    await using _all = cluster;
    const first = await kas.agent(agent, accepts);
    const second = await kas.agent(agent, accepts);
    expect(open(kas, { prefer: second.id }).connection).toBe(second.id);
    expect(open(kas, { prefer: second.id, exclude: [second.id] }).connection).toBe(first.id);
    expect(refusal(() => open(kas, { exclude: [first.id, second.id] }))).toBe("not-owner");
    expect(refusal(() => open(kas, { agentId: 8 as AgentId }))).toBe("not-owner");
  });

  it("gives each stream's place back exactly once, however it ended", async () => {
    const { cluster, kas } = await alone();
    await using _all = cluster;
    const one = await kas.agent(agent, answers());
    const limit = 1_000;
    for (let i = 0; i < 3; i++) {
      const { stream, heard } = open(kas);
      stream.end();
      await cluster.until(() => heard.isOver);
    }
    const cancelled = open(kas);
    cancelled.stream.reset({ failure: failure("cancelled", ""), unprocessed: false });
    expect(cancelled.heard.told).toEqual(["closed"]);
    const held = Array.from({ length: limit }, () => open(kas));
    expect(refusal(() => open(kas))).toBe("busy");
    held[0]?.stream.reset({ failure: failure("cancelled", ""), unprocessed: false });
    expect(open(kas).connection).toBe(one.id);
    expect(refusal(() => open(kas))).toBe("busy");
  });

  it("gives the place back where the user's handler throws at the reset", async () => {
    const { cluster, kas } = await alone();
    await using _all = cluster;
    await kas.agent(agent, () => {
      throw new Failed(failure("busy", "no"));
    });
    for (let i = 0; i < 1_000; i++) {
      const { heard } = call(kas.router, agent, { acceptWithin: 10 });
      heard.reset = () => {
        throw new Error("thrown at reset");
      };
    }
    await cluster.pass(500);
    expect(refusal(() => open(kas))).toBe("none");
    expect(kas.node.routing.counts().requests).toBe(0);
    await turns();
  });

  it("refuses on a connection whose link is no longer up, with proof and without a place lost", async () => {
    const { cluster, kas } = await alone();
    await using _all = cluster;
    const one = await kas.agent(agent, accepts);
    const running = open(kas);
    await turns();
    one.link.close();
    await turns();
    for (let i = 0; i < 1_001; i++) expect(refusal(() => open(kas))).toBe("not-owner");
    expect(running.heard.told).toEqual(["accepted"]);
    running.stream.reset({ failure: failure("cancelled", ""), unprocessed: false });
    await cluster.until(() => [...kas.holder.connections()].length === 0);
    expect(one.events).toContain("closed draining");
  });

  it("closes the older link when the same agent process connects anew, and resets its streams", async () => {
    const { cluster, kas } = await alone();
    await using _all = cluster;
    const old = await kas.agent(agent, accepts, { instance: "pod", process: "p", link: 1 });
    const running = open(kas);
    await turns();
    const next = await kas.agent(agent, accepts, { instance: "pod", process: "p", link: 2, lost: [1] });
    await turns();
    expect(old.events.at(-1)).toBe("closed node-gone");
    expect(running.heard.told).toEqual(["accepted", "reset node-gone", "closed"]);
    expect([...kas.holder.connections()].map(({ id }) => id)).toEqual([next.id]);
  });

  it("ends only the links that came with a revoked token; their streams are lost, not refused", async () => {
    const { cluster, kas } = await alone();
    await using _all = cluster;
    const revoked = await kas.agent(agent, accepts, { token: "old" });
    const other = await kas.agent(agent, accepts, { token: "new" });
    const sent = open(kas, { prefer: revoked.id });
    await turns();
    const unsent = open(kas, { prefer: revoked.id });
    kas.holder.revoke(new Set(["old"]));
    await turns();
    expect(revoked.events.at(-1)).toBe("closed unauthenticated");
    expect(sent.heard.ending).toMatchObject({ failure: { code: "node-gone" }, unprocessed: false });
    expect(unsent.heard.ending).toMatchObject({ failure: { code: "node-gone" }, unprocessed: true });
    expect([...kas.holder.connections()].map(({ id }) => id)).toEqual([other.id]);
  });

  it("tells of each connection once as it comes and goes, and describes it", async () => {
    const { cluster, kas } = await alone();
    await using _all = cluster;
    const told: unknown[] = [];
    const { onChange } = kas.holder;
    kas.holder.onChange = (change) => {
      told.push(change.type === "connected" ? change.agent.connection : change.type);
      onChange(change);
    };
    const one = await kas.agent(agent, accepts, { projectId: 5 });
    open(kas);
    const [connection] = [...kas.holder.connections()];
    if (!connection) throw new RangeError("no connection");
    expect(kas.holder.describe(connection)).toMatchObject({ agentId: 7, projectId: 5, activeStreams: 1, node: kas.id });
    one.link.destroy(failure("cancelled", ""));
    await turns();
    kas.holder.remove(one.id);
    expect(told).toEqual([one.id, "disconnected"]);
  });
});

describe.each([
  ["held here", ["a"]],
  ["held by another node", ["a", "b"]],
] as const)("an agent with one request per call, %s,", (_, names) => {
  async function pooled(behaviour: Behaviour) {
    const [cluster, ingress, other] = await StreamCluster.of(...names);
    if (!ingress) throw new RangeError("no node");
    const at = other ?? ingress;
    const pool = new CallPool(cluster.cluster.clock, behaviour, cluster.served);
    const details = { agentId: agent, name: "pool", projectId: 1, version: "v18", transport: "grpc" } as const;
    const rest = { link: pool, instance: "", connectedAt: 0, services: [], token: "t" };
    const id: ConnectionId = at.holder.add({ ...details, ...rest }, { instance: "", process: "p", link: 1, lost: [] });
    await cluster.pass(500);
    return { cluster, ingress, at, pool, id };
  }

  it("carries as many requests at once as it has calls, the others wait their turn", async () => {
    const { cluster, ingress, pool } = await pooled(answers("from a call"));
    await using _all = cluster;
    pool.offer(1);
    const calls = [1, 2, 3].map((i) => call(ingress.router, agent, {}, `body ${i}`));
    await cluster.until(() => calls.some(({ heard }) => heard.isOver));
    await turns();
    expect(cluster.served).toHaveLength(1);
    pool.offer(2);
    await cluster.until(() => calls.every(({ heard }) => heard.isOver));
    expect(calls.map(({ heard }) => heard.body.toString())).toEqual(["from a call", "from a call", "from a call"]);
    expect(cluster.served.map(({ body }) => body.toString()).toSorted()).toEqual(["body 1", "body 2", "body 3"]);
    cluster.expectQuiet();
  });

  it("lets an OPEN wait with no call at all, and ends it with proof when its time to be accepted passed", async () => {
    const { cluster, ingress, pool } = await pooled(answers());
    await using _all = cluster;
    const { heard } = call(ingress.router, agent, { acceptWithin: 2_000 }, "never sent");
    await cluster.pass(1_900);
    expect([heard.told, pool.streams]).toEqual([[], 1]);
    await cluster.until(() => heard.isOver, 1_000);
    expect(heard.told).toEqual(["reset deadline", "closed"]);
    await turns();
    expect([cluster.served.length, pool.streams]).toEqual([0, 0]);
    cluster.expectQuiet();
  });

  it("lets more than it can hold wait elsewhere: refused with proof, then tried on another connection", async () => {
    const { cluster, ingress, at, pool } = await pooled(answers());
    await using _all = cluster;
    const waiting = Array.from({ length: 4 }, () => call(ingress.router, agent, {}, "waits"));
    await turns();
    await at.agent(agent, answers("a link"));
    await cluster.pass(500);
    const fifth = call(ingress.router, agent, {}, "elsewhere");
    await cluster.until(() => fifth.heard.isOver, 3_000);
    expect(fifth.heard.body.toString()).toBe("a link");
    expect(pool.streams).toBe(4);
    pool.offer(4);
    await cluster.until(() => waiting.every(({ heard }) => heard.isOver));
    cluster.expectQuiet();
  });

  it("takes a cancelled request out of the queue, and ends the call of one that runs", async () => {
    const { cluster, ingress, pool } = await pooled(freezes);
    await using _all = cluster;
    pool.offer(1);
    const running = call(ingress.router, agent);
    await turns();
    const queued = call(ingress.router, agent);
    await turns();
    expect(pool.streams).toBe(2);
    for (const { stream } of [queued, running]) {
      stream.reset({ failure: failure("cancelled", ""), unprocessed: false });
    }
    await turns();
    expect(pool.streams).toBe(0);
    expect(cluster.served.map(({ told }) => told.at(-1))).toEqual(["closed"]);
    cluster.expectQuiet();
  });

  it("proves with its end that what waited did not run, and what ran is lost", async () => {
    const { cluster, ingress, at, pool, id } = await pooled(accepts);
    await using _all = cluster;
    pool.offer(1);
    const running = call(ingress.router, agent, {}, "ran");
    await turns();
    const queued = call(ingress.router, agent, {}, "did not");
    await turns();
    await at.agent(agent, answers("moved"));
    pool.destroy(failure("node-gone", "the agent left"));
    at.node.routing.disconnected(id);
    at.holder.remove(id);
    await cluster.until(() => running.heard.isOver && queued.heard.isOver, 3_000);
    expect(running.heard.told).toEqual(["accepted", "reset outcome-unknown", "closed"]);
    expect(queued.heard.body.toString()).toBe("moved");
    cluster.expectQuiet();
  });
});
