/** Streams that their node may cut: those it holds for callers, and those of agents held here. */
import { describe, expect, it } from "vitest";
import { Bag } from "../../actors/bag.ts";
import { failure } from "../../actors/failure.ts";
import type { AgentId } from "../../actors/ids.ts";
import { keepRunning, type RunningStream } from "../../src/cluster/running-stream.ts";
import { StreamCluster } from "../support/stream-cluster.ts";
import { accepts, answers, call } from "../support/streams.ts";

const agent = 7 as AgentId;
const leaving = failure("draining", "this node is leaving");

async function pair() {
  const [cluster, a, b] = await StreamCluster.of("a", "b");
  if (!a || !b) throw new RangeError("no nodes");
  const running = new Bag<RunningStream>();
  return { cluster, a, b, running, router: keepRunning(a.router, running) };
}

describe("streams of callers", () => {
  it("are known while they run, and forgotten however they end", async () => {
    const { cluster, b, running, router } = await pair();
    await using _all = cluster;
    await b.agent(agent, accepts);
    await cluster.pass(500);
    const watch = call(router, agent, { class: "watch" });
    const exec = call(router, agent, { class: "interactive", upgrade: true }, null);
    const unary = call(router, agent);
    unary.stream.reset({ failure: failure("cancelled", ""), unprocessed: false });
    expect([unary.heard.told, running.size]).toEqual([["closed"], 2]);
    await cluster.until(() => watch.heard.told.includes("accepted"));
    expect([...running].map((stream) => stream.class)).toEqual(["watch", "interactive"]);
    watch.stream.reset({ failure: failure("cancelled", ""), unprocessed: false });
    expect(running.size).toBe(1);
    for (const stream of running) stream.cut(leaving);
    expect(running.size).toBe(0);
    expect(exec.heard.told).toEqual(["accepted", "reset outcome-unknown", "closed"]);
    await cluster.pass(1_000);
    for (const { ending } of cluster.served) expect(ending).not.toBeNull();
    cluster.expectQuiet();
  });

  it("pass through whole, and are cut once", async () => {
    const { cluster, b, running, router } = await pair();
    await using _all = cluster;
    const connected = await b.agent(agent, answers("whole"));
    await cluster.pass(500);
    const { heard } = call(router, agent, { class: "bulk" }, "body");
    await cluster.until(() => heard.isOver);
    expect(heard.told).toEqual(["accepted", "head", "data", "trailer", "end", "closed"]);
    connected.behaviour = accepts;
    const second = call(router, agent, { class: "bulk" });
    await cluster.until(() => second.heard.told.includes("accepted"));
    const [kept] = running;
    kept?.cut(leaving);
    kept?.cut(leaving);
    expect(second.heard.told).toEqual(["accepted", "reset outcome-unknown", "closed"]);
  });
});

describe("streams of agents", () => {
  it("are cut towards both sides, with the node's reason at the ingress and without proof that nothing ran", async () => {
    const { cluster, a, b } = await pair();
    await using _all = cluster;
    await b.agent(agent, accepts);
    await cluster.pass(500);
    const { heard } = call(a.router, agent, { class: "watch" });
    await cluster.until(() => heard.told.includes("accepted"));
    const [held, ...more] = b.holder.streams();
    expect([held?.class, more]).toEqual(["watch", []]);
    held?.cut(leaving);
    held?.cut(leaving);
    expect([...b.holder.streams()]).toEqual([]);
    await cluster.until(() => heard.isOver);
    expect(heard.ending?.failure).toMatchObject({
      code: "outcome-unknown",
      reason: expect.stringMatching(/this node is leaving/),
    });
    expect(cluster.served[0]?.ending?.failure.code).toBe("draining");
    await cluster.pass(1_000);
    cluster.expectQuiet();
  });
});
