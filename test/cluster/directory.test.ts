/** Lists and watches of what is connected to the whole cluster, asked of every holder. */
import { describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import type { AgentId } from "../../actors/ids.ts";
import { fromParts, inParts, keyOf, MAX_PAGE_SIZE } from "../../src/cluster/agent-list.ts";
import type { AgentChange, AgentFilter, AgentPage, ConnectedAgent } from "../../src/cluster/router.ts";
import { StreamCluster } from "../support/stream-cluster.ts";
import type { Kas } from "../support/stream-node.ts";
import { turns } from "../support/streams.ts";

const ALL: AgentFilter = { agentIds: [], projectIds: [] };
const id = (agent: number) => agent as AgentId;

async function three() {
  const [cluster, a, b, c] = await StreamCluster.of("a", "b", "c");
  if (!a || !b || !c) throw new RangeError("no nodes");
  return { cluster, a, b, c };
}

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

/** What a user of a watch knows: the last snapshot with every change applied. */
class Knows {
  readonly told: AgentChange[] = [];
  readonly known = new Map<string, ConnectedAgent>();
  readonly surprises: string[] = [];

  readonly changed = (change: AgentChange): void => {
    this.told.push(change);
    switch (change.type) {
      case "snapshot":
        if (this.told.length > 1) this.surprises.push("a second snapshot");
        for (const agent of change.agents) this.#add(agent);
        return;
      case "resync":
        for (const [key, { node }] of this.known) if (node === change.node) this.known.delete(key);
        for (const agent of change.agents) this.#add(agent);
        return;
      case "connected":
        this.#add(change.agent);
        return;
      case "disconnected":
        if (!this.known.delete(`${change.node}/${change.connection}`)) this.surprises.push("an unknown one left");
    }
  };

  #add(agent: ConnectedAgent): void {
    const key = `${agent.node}/${agent.connection}`;
    if (this.known.has(key)) this.surprises.push(`${key} twice`);
    this.known.set(key, agent);
  }

  get agents(): number[] {
    return [...this.known.values()].map(({ agentId }) => agentId).sort((x, y) => x - y);
  }
  get types(): string[] {
    return this.told.map(({ type }) => type);
  }
}

function watch(kas: Kas, filter = ALL) {
  const knows = new Knows();
  return { knows, watching: kas.directory.watch(filter, knows.changed) };
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

const example = (n: number): ConnectedAgent => ({
  agentId: id(n),
  node: "b.1" as never,
  connection: n as never,
  name: `agent ${n}`,
  projectId: 1,
  version: "v1",
  instance: "",
  transport: "grpc",
  connectedAt: 0,
  activeStreams: 0,
  services: [],
});

describe("the parts of a snapshot", () => {
  it.each([0, 1, MAX_PAGE_SIZE, MAX_PAGE_SIZE + 1, 2_500])("are bounded and make the whole of %i again", (count) => {
    const all = Array.from({ length: count }, (_, n) => example(n));
    const parts = inParts({ type: "snapshot", agents: all, complete: true, missing: [] });
    expect(parts.length).toBe(Math.max(1, Math.ceil(count / MAX_PAGE_SIZE)));
    const whole: AgentChange[] = [];
    const take = fromParts((change) => whole.push(change));
    for (const part of parts) take(part);
    expect(whole).toEqual([{ type: "snapshot", agents: all, complete: true, missing: [] }]);
  });
});
