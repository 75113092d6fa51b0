/** Lists of what is connected to the whole cluster, asked of every holder. */
import { describe, expect, it } from "vitest";
import { keyOf } from "../../src/cluster/agent-list.ts";
import type { AgentFilter, AgentPage, ConnectedAgent } from "../../src/cluster/router.ts";
import type { StreamCluster } from "../support/stream-cluster.ts";
import { turns } from "../support/streams.ts";
import { ALL, id, three } from "./directory-watcher.ts";

const agents = ({ agents: listed }: Pick<AgentPage, "agents">) => listed.map(({ agentId }) => agentId);

/** Settles while time passes. */
async function during<Value>(cluster: StreamCluster, promise: Promise<Value>): Promise<Value> {
  let settled: { value: Value } | null = null;
  void promise.then((value) => {
    settled = { value };
  });
  await cluster.until(() => settled !== null);
  return await promise;
}

describe("a list of agents", () => {
  it("has the agents of every holder, in one order on every node, and is complete", async () => {
    const { cluster, a, b, c } = await three();
    await using _all = cluster;
    for (const [kas, agent] of [
      [c, 3],
      [a, 2],
      [b, 1],
      [a, 11],
      [b, 2],
    ] as const)
      await kas.agent(id(agent));
    const pages = await Promise.all([a, b, c].map((kas) => during(cluster, kas.directory.list(ALL, 0, "", 1_000))));
    expect(agents(pages[0] ?? { agents: [] })).toEqual([1, 2, 2, 3, 11]);
    expect(pages[1]).toEqual(pages[0]);
    expect(pages[2]).toEqual(pages[0]);
    expect(pages[0]).toMatchObject({ complete: true, missing: [], nextPageToken: "" });
    cluster.expectQuiet();
  });

  it("comes in pages that name every agent once, whatever their size", async () => {
    const { cluster, a, b, c } = await three();
    await using _all = cluster;
    for (let agent = 1; agent <= 9; agent++) await ([a, b, c][agent % 3] ?? a).agent(id(agent));
    await a.agent(id(5));
    for (const size of [1, 3, 4, 10, 100]) {
      const found: ConnectedAgent[] = [];
      let token = "";
      let pages = 0;
      do {
        const page = await during(cluster, b.directory.list(ALL, size, token, 1_000));
        expect(page.agents.length).toBeLessThanOrEqual(size);
        found.push(...page.agents);
        token = page.nextPageToken;
        pages++;
      } while (token);
      expect(found.map(keyOf)).toEqual(found.map(keyOf).toSorted());
      expect(agents({ agents: found })).toEqual([1, 2, 3, 4, 5, 5, 6, 7, 8, 9]);
      expect(pages).toBe(Math.ceil(10 / size));
    }
  });

  it("has only what the filter names, on every node", async () => {
    const { cluster, a, b } = await three();
    await using _all = cluster;
    await a.agent(id(1), undefined, { projectId: 10 });
    await b.agent(id(2), undefined, { projectId: 20 });
    await b.agent(id(3), undefined, { projectId: 10 });
    const list = (filter: AgentFilter) => during(cluster, a.directory.list(filter, 0, "", 1_000));
    expect(agents(await list({ agentIds: [], projectIds: [10] }))).toEqual([1, 3]);
    expect(agents(await list({ agentIds: [id(2)], projectIds: [] }))).toEqual([2]);
    expect(agents(await list({ agentIds: [id(2)], projectIds: [10] }))).toEqual([1, 2, 3]);
  });

  it.each(["stalled", "gone"] as const)(
    "names a member that is %s, within the bound, and has all others",
    async (how) => {
      const { cluster, a, b, c } = await three();
      await using _all = cluster;
      for (const [kas, agent] of [
        [a, 1],
        [b, 2],
        [c, 3],
      ] as const)
        await kas.agent(id(agent));
      b.sockets = "unanswered";
      if (how === "stalled") a.wires.get(b.id)?.stall();
      else a.wires.get(b.id)?.cutAfter(0);
      await turns();
      const began = cluster.cluster.clock.now();
      const page = await during(cluster, a.directory.list(ALL, 0, "", 800));
      expect(cluster.cluster.clock.now() - began).toBeLessThanOrEqual(850);
      expect([agents(page), page.complete, page.missing]).toEqual([[1, 3], false, [b.id]]);
    },
  );
});
