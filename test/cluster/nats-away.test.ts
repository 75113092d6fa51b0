/** NATS away, for all or for one node: messages go over peer links, agents are found, the view stands, and all heals. */
import { describe, expect, it } from "vitest";
import { type AgentId, nameOf } from "../../actors/ids.ts";
import { buildRing, homesOf, slotOf } from "../../actors/ring.ts";
import { Cluster, local, outcomeOf, type TestNode } from "../support/cluster.ts";

function trio() {
  const cluster = new Cluster();
  cluster.linked = true;
  const [a, b, c] = ["a", "b", "c"].map((name) => cluster.start(name));
  if (!a || !b || !c) throw new Error("three nodes were started");
  const nodes = [a, b, c];
  for (const node of nodes) node.routing.join();
  cluster.advance(3_000);
  return { cluster, nodes, a, b, c };
}

const away = (...nodes: readonly TestNode[]) => nodes.forEach((node) => void node.messenger.connect(false));
const back = (...nodes: readonly TestNode[]) => nodes.forEach((node) => void node.messenger.connect(true));
const states = (node: TestNode) => node.routing.members().map(({ state }) => state);
const idle = { requests: 0, parked: 0, watches: 0, asks: 0 };

/** An agent whose two homes are not `node`. */
function agentAwayFrom(node: TestNode): AgentId {
  const ring = buildRing(["a", "b", "c"] as never[], 2);
  for (let id = 100; ; id++) {
    if (!homesOf(ring, slotOf(id as AgentId)).includes(nameOf(node.id))) return id as AgentId;
  }
}

describe("NATS is away for all", () => {
  it("an agent that reconnects elsewhere is found over links, warm and cold", () => {
    const { cluster, nodes, a, b, c } = trio();
    const agent = agentAwayFrom(a);
    const old = c.routing.connected(local(agent));
    cluster.advance(100);
    outcomeOf(a, agent).control.report(1, { type: "done" });
    away(...nodes);
    cluster.advance(30_000);
    expect(states(a)).toEqual(["alive", "alive", "alive"]);
    c.routing.disconnected(old);
    const again = b.routing.connected(local(agent, { link: 2 }));
    cluster.advance(200);
    const cold = outcomeOf(a, agent);
    cluster.advance(20);
    const refused = cold.attempts[0];
    if (refused?.node === c.id) {
      cold.control.report(1, { type: "refused", failure: { code: "not-owner", reason: "" }, dial: false });
      cluster.advance(20);
    }
    expect(cold.attempts.at(-1)).toMatchObject({ node: b.id, prefer: again });
  });

  it("a request that waits is carried within a few ms of the agent's connection anywhere", () => {
    const { cluster, nodes, a, c } = trio();
    const agent = agentAwayFrom(a);
    away(...nodes);
    cluster.advance(15_000);
    const request = outcomeOf(a, agent);
    cluster.advance(3_050);
    expect(request).toMatchObject({ attempts: [], failures: [] });
    c.routing.connected(local(agent));
    cluster.advance(40);
    expect(request.attempts).toMatchObject([{ node: c.id }]);
  });

  it("the view stands without limit, nobody claims to have it, and absence is never proven", () => {
    const { cluster, nodes, a } = trio();
    away(...nodes);
    cluster.advance(600_000);
    for (const node of nodes) {
      expect(states(node)).toEqual(["alive", "alive", "alive"]);
      expect(node.routing.bus).toEqual({ awayFor: 600_000, othersHaveIt: false });
    }
    const request = outcomeOf(a, agentAwayFrom(a), { acceptWithin: 5_000 });
    cluster.advance(4_900);
    expect(request.failures).toEqual([]);
    cluster.advance(120);
    expect(request.failures).toMatchObject([{ code: "agent-offline" }]);
  });

  it("a member whose link is refused leaves at once, one whose link is silent after 8 s", () => {
    const { cluster, nodes, a, b, c } = trio();
    away(...nodes);
    cluster.advance(1_000);
    cluster.crash(b);
    cluster.advance(1_500);
    expect(a.routing.members().map(({ node }) => node)).toEqual([a.id, c.id]);
    cluster.linkOpen = (from) => from !== c.id;
    cluster.advance(2_800);
    expect(states(a)).toEqual(["alive", "suspect"]);
    cluster.advance(6_500);
    expect(states(a)).toEqual(["alive"]);
  });

  it("a node that drains or leaves says so over links", () => {
    const { cluster, nodes, a, b } = trio();
    away(...nodes);
    cluster.advance(1_000);
    b.routing.drain();
    cluster.advance(150);
    expect(states(a)).toContain("draining");
    b.routing.leave();
    cluster.advance(10);
    expect(a.routing.members()).toHaveLength(2);
  });

  it("everything is exact within 5 s of its return, and nothing is left behind", () => {
    const { cluster, nodes, a, b, c } = trio();
    const agents = Array.from({ length: 40 }, (_, i) => (i + 1) as AgentId);
    for (const agent of agents) c.routing.connected(local(agent));
    cluster.advance(100);
    away(...nodes);
    cluster.advance(20_000);
    cluster.crash(c);
    cluster.advance(3_000);
    for (const agent of agents) b.routing.connected(local(agent, { link: 2 }));
    back(...nodes);
    cluster.advance(5_000);
    expect(a.routing.view).toBe(b.routing.view);
    for (const agent of agents) {
      const request = outcomeOf(a, agent);
      cluster.advance(5);
      expect(request.attempts).toMatchObject([{ node: b.id }]);
      request.control.report(1, { type: "done" });
    }
    for (const node of [a, b]) expect(node.routing.counts()).toMatchObject({ entries: 40, ...idle });
  });
});

describe("NATS is away for one node", () => {
  it("it is no home after 8 s, its agents stay reachable, and it finds theirs", () => {
    const { cluster, a, b, c } = trio();
    const mine = agentAwayFrom(b);
    const theirs = 900 as AgentId;
    away(a);
    cluster.advance(10_000);
    expect(b.routing.members().find(({ node }) => node === a.id)?.state).toBe("suspect");
    a.routing.connected(local(mine));
    c.routing.connected(local(theirs));
    cluster.advance(200);
    const [there, here] = [outcomeOf(b, mine), outcomeOf(a, theirs)];
    cluster.advance(1_500);
    expect(there.attempts).toMatchObject([{ node: a.id }]);
    expect(here.attempts).toMatchObject([{ node: c.id }]);
  });

  it("hears over its links that the others have it, and they have no doubt about themselves", () => {
    const { cluster, a, b } = trio();
    away(a);
    cluster.advance(4_000);
    expect(a.routing.bus).toEqual({ awayFor: 4_000, othersHaveIt: true });
    expect(b.routing.bus.awayFor).toBe(0);
    back(a);
    cluster.advance(2_000);
    expect(states(b)).toEqual(["alive", "alive", "alive"]);
    expect(a.routing.view).toBe(b.routing.view);
  });

  it("keeps its homes when most members fall silent at once, for their links are heard", () => {
    const { cluster, nodes, a } = trio();
    const view = a.routing.view;
    cluster.weather = (_from, to) => (to === a.id ? [] : [1]);
    cluster.advance(30_000);
    expect(states(a)).toEqual(["alive", "alive", "alive"]);
    expect(a.routing.view).toBe(view);
    cluster.weather = () => [1];
    cluster.advance(5_000);
    expect(new Set(nodes.map((node) => node.routing.view)).size).toBe(1);
  });
});

describe("nodes that did not know each other when NATS went away", () => {
  /** b knows a and c, who never heard of each other. */
  function strangers() {
    const cluster = new Cluster();
    cluster.linked = true;
    const [a, b, c] = ["a", "b", "c"].map((name) => cluster.start(name));
    if (!a || !b || !c) throw new Error("three nodes were started");
    const apart = [a.id, c.id];
    cluster.weather = (from, to) => (apart.includes(from) && apart.includes(to) ? [] : [1]);
    for (const node of [a, b, c]) node.routing.join();
    cluster.advance(3_000);
    expect([a, b, c].map((node) => node.routing.members().length)).toEqual([2, 3, 2]);
    return { cluster, nodes: [a, b, c], a, b, c };
  }

  it("meet over their links with one that both know, and find each other's agents", () => {
    const { cluster, nodes, a, c } = strangers();
    away(...nodes);
    cluster.advance(5_000);
    for (const node of nodes) expect(states(node)).toEqual(["alive", "alive", "alive"]);
    expect(new Set(nodes.map((node) => node.routing.view)).size).toBe(1);
    const agent = agentAwayFrom(a);
    c.routing.connected(local(agent));
    cluster.advance(50);
    const request = outcomeOf(a, agent);
    cluster.advance(50);
    expect(request.attempts).toMatchObject([{ node: c.id }]);
  });

  it("are no members of each other before a link is up, and meet on NATS when it is back", () => {
    const { cluster, nodes, a, b, c } = strangers();
    cluster.linkOpen = (from, to) => ![from, to].every((node) => node === a.id || node === c.id);
    away(...nodes);
    cluster.advance(30_000);
    expect([a, b, c].map((node) => node.routing.members().length)).toEqual([2, 3, 2]);
    cluster.linkOpen = () => true;
    cluster.weather = () => [1];
    back(...nodes);
    cluster.advance(5_000);
    expect([a, b, c].map((node) => states(node))).toEqual(Array(3).fill(["alive", "alive", "alive"]));
  });
});

describe("a node that joins while another has no NATS", () => {
  it("is found by it, over its link with those that met the newcomer", () => {
    const { cluster, a } = trio();
    away(a);
    cluster.advance(1_000);
    const d = cluster.start("d");
    d.routing.join();
    cluster.advance(8_000);
    expect(a.routing.members().map(({ node }) => node)).toContain(d.id);
    const agent = 901 as AgentId;
    d.routing.connected(local(agent));
    cluster.advance(200);
    const request = outcomeOf(a, agent);
    cluster.advance(1_500);
    expect(request.attempts).toMatchObject([{ node: d.id }]);
  });
});

describe("a peer link that is silent", () => {
  it("is not chosen after 2 s while another route exists", () => {
    const { cluster, a, b, c } = trio();
    const agent = agentAwayFrom(b);
    b.routing.connected(local(agent, { instance: "pod-0" }));
    c.routing.connected(local(agent, { instance: "pod-1" }));
    cluster.advance(100);
    cluster.linkOpen = (from, to) => from !== b.id || to !== a.id;
    cluster.advance(2_600);
    for (let i = 0; i < 20; i++) {
      const request = outcomeOf(a, agent);
      cluster.advance(5);
      expect(request.attempts).toMatchObject([{ node: c.id }]);
      request.control.report(1, { type: "done" });
    }
  });
});

describe("a machine whose clock went back", () => {
  it("joins as the incarnation after the one that others remember, under its new name everywhere", async () => {
    const { cluster, a, b } = trio();
    b.routing.leave();
    cluster.crash(b);
    cluster.advance(2_000);
    const again = cluster.start("b", { incarnation: 5, mayRename: true });
    const joining = again.routing.join();
    cluster.advance(1_000);
    const early = again.routing.connected(local(55 as AgentId));
    cluster.advance(2_500);
    await joining;
    expect(again.id).not.toBe("b.5");
    expect(again.routing.self).toBe(again.id);
    expect(again.superseded).toEqual([early]);
    again.routing.disconnected(early);
    const agent = 56 as AgentId;
    again.routing.connected(local(agent));
    cluster.advance(200);
    const [there, here] = [outcomeOf(a, agent), outcomeOf(again, agent)];
    cluster.advance(50);
    expect(there.attempts).toMatchObject([{ node: again.id }]);
    expect(here.attempts).toMatchObject([{ node: again.id }]);
    expect(again.registered.length).toBeGreaterThan(0);
    expect(a.routing.members().map(({ node }) => node)).toContain(again.id);
  });
});
