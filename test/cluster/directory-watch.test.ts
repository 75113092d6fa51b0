/** Watches of what is connected to the whole cluster: a snapshot of any size, then each change once. */
import { describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import { StreamCluster } from "../support/stream-cluster.ts";
import type { Kas } from "../support/stream-node.ts";
import { turns } from "../support/streams.ts";
import { example, id, three, watch } from "./directory-watcher.ts";

describe("a watch of agents", () => {
  it("tells one snapshot on a later turn, then each change of any node once", async () => {
    const { cluster, a, b, c } = await three();
    await using _all = cluster;
    await a.agent(id(1));
    const two = await b.agent(id(2));
    const { knows, watching } = watch(a);
    expect(knows.told).toEqual([]);
    await turns();
    expect(knows.told).toMatchObject([{ type: "snapshot", complete: true, missing: [] }]);
    expect(knows.agents).toEqual([1, 2]);
    await a.agent(id(4));
    await c.agent(id(3));
    two.link.destroy(failure("cancelled", ""));
    await turns();
    expect(knows.agents).toEqual([1, 3, 4]);
    expect(knows.types.toSorted()).toEqual(["connected", "connected", "disconnected", "snapshot"]);
    watching[Symbol.dispose]();
    await turns();
    await b.agent(id(5));
    await turns();
    expect(knows.told).toHaveLength(4);
    expect(knows.surprises).toEqual([]);
    cluster.expectQuiet();
  });

  it("tells a node on its own everything as well", async () => {
    const [cluster, a] = await StreamCluster.of("a");
    await using _all = cluster;
    const { knows, watching } = watch(a as Kas);
    await a?.agent(id(1));
    await turns();
    expect([knows.types.at(0), knows.agents]).toEqual(["snapshot", [1]]);
    watching[Symbol.dispose]();
  });

  it("tells only of what the filter names, also when it leaves", async () => {
    const { cluster, a, b } = await three();
    await using _all = cluster;
    const { knows, watching } = watch(a, { agentIds: [], projectIds: [10] });
    await turns();
    const mine = await b.agent(id(1), undefined, { projectId: 10 });
    const foreign = await b.agent(id(2), undefined, { projectId: 20 });
    const here = await a.agent(id(3), undefined, { projectId: 20 });
    await turns();
    for (const { link } of [mine, foreign, here]) link.destroy(failure("cancelled", ""));
    await turns();
    expect([knows.agents, knows.surprises]).toEqual([[], []]);
    expect(knows.types).toEqual(["snapshot", "connected", "disconnected"]);
    watching[Symbol.dispose]();
  });

  it("takes a snapshot of any size, in messages of bounded size", async () => {
    const { cluster, a, b } = await three();
    await using _all = cluster;
    const many = Array.from({ length: 20_000 }, (_, n) => ({ ...example(n + 1), node: b.id }));
    const { describe: described, connections } = b.holder;
    b.holder.connections = () => many as never;
    b.holder.describe = (connection) => connection as never;
    const { knows, watching } = watch(a);
    await cluster.until(() => knows.told.length > 0, 1_000);
    expect(knows.told[0]).toMatchObject({ type: "snapshot", complete: true });
    expect(knows.known.size).toBe(20_000);
    b.holder.onChange({ type: "connected", agent: { ...example(30_000), node: b.id } });
    await cluster.pass(1_000);
    expect([knows.known.size, knows.types]).toEqual([20_001, ["snapshot", "connected"]]);
    b.holder.describe = described;
    b.holder.connections = connections;
    watching[Symbol.dispose]();
  });

  it("leaves nothing when it is disposed at any moment", async () => {
    const { cluster, a, b, c } = await three();
    await using _all = cluster;
    a.wires.get(c.id)?.cutAfter(0);
    c.sockets = "unanswered";
    for (const wait of [0, 1, 30, 2_500]) {
      const { watching, knows } = watch(a);
      if (wait > 100) await cluster.pass(wait);
      else await turns(wait);
      const { length } = knows.told;
      watching[Symbol.dispose]();
      watching[Symbol.dispose]();
      await b.agent(id(1));
      await cluster.pass(600);
      expect(knows.told).toHaveLength(length);
    }
    expect([...b.accepted].map(({ streams }) => streams)).toEqual([...b.accepted].map(() => 0));
  });
});
