/** Which failure a caller hears: the agent's own verdict, or what its ingress makes of one. */
import { describe, expect, it } from "vitest";
import type { FailureCode } from "../../actors/failure.ts";
import type { AgentId } from "../../actors/ids.ts";
import { StreamCluster } from "../support/stream-cluster.ts";
import { accepts, answers, call, freezes, refuses, resets, turns } from "../support/streams.ts";
import { agent, GET, PLACES, placed } from "./ingress-place.ts";

describe.each(PLACES)("a request for an agent %s", (_, names) => {
  it.each(["busy", "draining", "agent-offline", "cluster-unavailable", "node-gone"] satisfies FailureCode[])(
    "never passes on an invitation to retry (%s) from an agent that had accepted",
    async (code) => {
      const { cluster, ingress } = await placed(names, resets(code), resets(code));
      await using _all = cluster;
      const { heard } = call(ingress.router, agent, {}, "once");
      await cluster.until(() => heard.isOver);
      expect(heard.told).toEqual(["accepted", "reset outcome-unknown", "closed"]);
      expect(cluster.served).toHaveLength(1);
    },
  );

  it("passes the agent's own verdict on, idempotent or not, and asks nobody else", async () => {
    const { cluster, ingress } = await placed(names, resets("upstream-unreachable"), resets("upstream-unreachable"));
    await using _all = cluster;
    const { heard } = call(ingress.router, agent, GET);
    await cluster.until(() => heard.isOver);
    expect(heard.told).toEqual(["accepted", "reset upstream-unreachable", "closed"]);
    expect(cluster.served).toHaveLength(1);
    cluster.expectQuiet();
  });

  it("keeps the reason of a final refusal, with nothing left", async () => {
    const { cluster, ingress } = await placed(names, refuses("forbidden"), refuses("forbidden"));
    await using _all = cluster;
    const { heard } = call(ingress.router, agent, {}, "body");
    await cluster.until(() => heard.isOver);
    expect(heard.told).toEqual(["reset forbidden", "closed"]);
    expect(ingress.meter.opens).toHaveLength(1);
    expect(ingress.meter.unrouteds).toEqual(["forbidden"]);
    cluster.expectQuiet();
  });

  it("survives the revocation of one agent token: nothing that may have run is called unauthenticated", async () => {
    const { cluster, ingress, holder } = await placed(names, accepts);
    await using _all = cluster;
    const { heard } = call(ingress.router, agent, {}, "body");
    await cluster.until(() => heard.told.includes("accepted"));
    holder.holder.revoke(new Set(["token"]));
    await cluster.until(() => heard.isOver);
    expect(heard.told).toEqual(["accepted", "reset outcome-unknown", "closed"]);
  });
});

describe("an ingress", () => {
  it("tells every failure on a later turn, also the one it knows at once", async () => {
    const [cluster, a] = await StreamCluster.of("a");
    await using _all = cluster;
    await cluster.pass(31_000, 500); // its index is complete: absence is known at once
    const caller = { kind: "rails", id: "", as: null } as const;
    const unknown = call(a?.router as never, 404 as AgentId, { caller });
    const offline = call(a?.router as never, agent);
    const large = call(a?.router as never, agent, { path: "x".repeat(70_000) });
    expect([unknown.heard.told, offline.heard.told, large.heard.told]).toEqual([[], [], []]);
    await turns(2);
    expect(unknown.heard.told).toEqual(["reset agent-unknown", "closed"]);
    expect(offline.heard.told).toEqual(["reset agent-offline", "closed"]);
    expect(a?.meter.unrouteds).toContain("agent-unknown");
  });

  it("refuses a head that is too large, with no stream opened", async () => {
    const [cluster, a] = await StreamCluster.of("a");
    await using _all = cluster;
    await a?.agent(agent, answers());
    const { heard } = call(a?.router as never, agent, { path: "x".repeat(70_000) });
    expect(heard.told).toEqual([]);
    await turns(2);
    expect(heard.told).toEqual(["reset too-large", "closed"]);
    expect(a?.meter.opens).toEqual([]);
  });

  it("ends what comes in after the node left", async () => {
    const [cluster, a] = await StreamCluster.of("a");
    await using _all = cluster;
    await a?.agent(agent, freezes);
    await a?.node.routing.leave();
    const { heard } = call(a?.router as never, agent, { acceptWithin: 1_000 });
    await cluster.pass(2_000);
    expect(heard.isOver).toBe(true);
  });
});
