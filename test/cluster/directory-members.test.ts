/** Watches of a directory whose members fall silent, are cut off, leave, crash, join or are read too slowly. */
import { describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import type { AgentChange } from "../../src/cluster/router.ts";
import { turns } from "../support/streams.ts";
import { example, id, three, watch } from "./directory-watcher.ts";

describe("a watch of agents", () => {
  it("does not wait for a silent member: it is named missing, and comes as a resync later", async () => {
    const { cluster, a, b } = await three();
    await using _all = cluster;
    await b.agent(id(2));
    a.wires.get(b.id)?.cutAfter(0);
    b.sockets = "unanswered";
    const { knows, watching } = watch(a);
    await cluster.pass(2_100);
    expect(knows.told).toMatchObject([{ type: "snapshot", complete: false, missing: [b.id] }]);
    b.sockets = "served";
    await cluster.until(() => knows.agents.length === 1);
    expect(knows.types).toEqual(["snapshot", "resync"]);
    watching[Symbol.dispose]();
  });

  it("tells a resync after the link to a member was lost, with what changed meanwhile", async () => {
    const { cluster, a, b } = await three();
    await using _all = cluster;
    const two = await b.agent(id(2));
    const { knows, watching } = watch(a);
    await turns();
    a.wires.get(b.id)?.cutAfter(0);
    two.link.destroy(failure("cancelled", ""));
    await b.agent(id(3));
    await cluster.pass(2_000);
    expect(knows.agents).toEqual([3]);
    expect(knows.types).toEqual(["snapshot", "resync"]);
    await b.agent(id(4));
    await turns();
    expect(knows.agents).toEqual([3, 4]);
    expect(knows.surprises).toEqual([]);
    watching[Symbol.dispose]();
  });

  it.each(["leaves", "crashes"] as const)("tells that the agents of a member that %s are gone with it", async (how) => {
    const { cluster, a, b } = await three();
    await using _all = cluster;
    await a.agent(id(1));
    await b.agent(id(2));
    const { knows, watching } = watch(a);
    await turns();
    expect(knows.agents).toEqual([1, 2]);
    if (how === "leaves") await b.node.routing.leave();
    b.crash();
    await cluster.pass(12_000);
    expect(a.node.routing.members().map(({ node }) => node)).not.toContain(b.id);
    expect(knows.agents).toEqual([1]);
    expect(knows.surprises).toEqual([]);
    watching[Symbol.dispose]();
  });

  it("follows a member that joins later", async () => {
    const { cluster, a } = await three();
    await using _all = cluster;
    const { knows, watching } = watch(a);
    await turns();
    const d = cluster.start("d");
    void d.node.routing.join();
    await cluster.pass(3_000);
    await d.agent(id(9));
    await cluster.pass(1_000);
    expect([knows.agents, knows.surprises]).toEqual([[9], []]);
    watching[Symbol.dispose]();
  });

  it("cuts a watcher of another node that reads too slowly, which lists anew and misses nothing", async () => {
    const { cluster, a, b } = await three();
    await using _all = cluster;
    const { knows, watching } = watch(a);
    await turns();
    const wire = [...cluster.carriers].find((carrier) => carrier === a.wires.get(b.id));
    const back = cluster.carriers[cluster.carriers.indexOf(wire as never) + 1];
    back?.stall();
    const change = (n: number): AgentChange => ({
      type: "connected",
      agent: { ...example(n), node: b.id, name: "n".repeat(50_000) },
    });
    for (let n = 0; n < 120; n++) b.holder.onChange(change(n));
    const link = [...b.accepted].find(({ peer }) => peer?.node === a.id);
    expect(link?.bufferedBytes).toBeLessThan(5 * 1024 * 1024);
    back?.resume();
    await b.agent(id(2));
    await cluster.pass(2_000);
    expect(knows.types.filter((type) => type === "resync")).toHaveLength(1);
    expect(knows.agents).toEqual([2]);
    watching[Symbol.dispose]();
    await turns();
    cluster.expectQuiet();
  });
});
