/** The holder's authority: who gets a stream, who gets none, and what a newer generation closes. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Entry } from "../../actors/channel.ts";
import { createConnections } from "../../actors/connection.ts";
import type { AgentId, ConnectionId, NodeId } from "../../actors/ids.ts";
import { simulate } from "../support/simulate.ts";

const agent = 7 as AgentId;
const node = "a.1" as NodeId;
const id = (n: number) => n as ConnectionId;
const entry = (connection: number, changes: Partial<Entry> = {}): Entry => ({
  connection: id(connection),
  agent,
  instance: `pod-${connection}`,
  process: "p",
  link: connection,
  lost: [],
  since: connection,
  draining: false,
  ...changes,
});
const holding = (...entries: readonly Entry[]) => {
  const sim = simulate(createConnections(4));
  for (const one of entries) sim.tell({ type: "connected", node, entry: one });
  sim.take();
  return sim;
};
type Sim = ReturnType<typeof holding>;
const take = (sim: Sim, prefer = 0, exclude: readonly number[] = []) => {
  sim.tell({ type: "take", agent, prefer: id(prefer), exclude: exclude.map(id) });
  return sim.take();
};

it("counts the connections that take new streams, whatever becomes of them", () => {
  const step = fc.tuple(
    fc.constantFrom("connected", "disconnected", "drained", "superseded"),
    fc.integer({ min: 1, max: 6 }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const sim = holding();
      let last = 0;
      for (const [type, n] of steps) {
        if (type === "connected") {
          last++;
          // Every third is the same process again, and supersedes what it says it lost.
          const changes = n % 3 === 0 ? { instance: "pod-0", lost: [last - 1] } : {};
          sim.tell({ type, node, entry: entry(last, { draining: n === 5, ...changes }) });
        } else sim.tell({ type, connection: id(n) });
        const serving = [...sim.state.byId.values()].filter((one) => !one.draining && !one.superseded).length;
        expect(sim.state.serving).toBe(serving);
      }
    }),
  );
});

describe("take", () => {
  it("gives the connection that is asked for, or the least busy one", () => {
    const sim = holding(entry(1), entry(2));
    expect(take(sim, 2)).toEqual([{ type: "taken", connection: 2 }]);
    expect(take(sim)).toEqual([{ type: "taken", connection: 1 }]);
  });

  it("refuses what is gone or excluded", () => {
    const sim = holding(entry(1));
    expect(take(sim, 1, [1])).toMatchObject([{ type: "refused", failure: { code: "not-owner" } }]);
    sim.tell({ type: "disconnected", connection: id(1) });
    sim.take();
    expect(take(sim, 1)).toMatchObject([{ type: "refused", failure: { code: "not-owner" } }]);
  });

  it("gives a draining one only when there is no other", () => {
    const sim = holding(entry(1), entry(2)).tell({ type: "drained", connection: id(1) });
    sim.take();
    expect(take(sim, 1)).toEqual([{ type: "taken", connection: 2 }]);
    expect(take(sim, 1, [2])).toEqual([{ type: "taken", connection: 1 }]);
  });

  it("is busy at the agent's limit and free again when a stream is over", () => {
    const sim = holding(entry(1), entry(2));
    for (let i = 0; i < 4; i++) expect(take(sim)[0]?.type).toBe("taken");
    expect(take(sim)).toMatchObject([{ type: "refused", failure: { code: "busy" } }]);
    sim.tell({ type: "released", connection: id(1) });
    expect(take(sim)).toEqual([{ type: "taken", connection: 1 }]);
  });

  it("never gives a superseded one", () => {
    const sim = holding(entry(1)).tell({ type: "superseded", connection: id(1) });
    expect(sim.take()).toMatchObject([{ type: "remove" }, { type: "close", connection: 1 }]);
    expect(take(sim, 1)).toMatchObject([{ type: "refused" }]);
    sim.tell({ type: "superseded", connection: id(1) }).tell({ type: "disconnected", connection: id(1) });
    expect(sim.take()).toEqual([]);
  });
});

describe("a connection that goes", () => {
  it("leaves the others of its agent, and its homes are told once", () => {
    const sim = holding(entry(1), entry(2)).tell({ type: "disconnected", connection: id(1) });
    sim.tell({ type: "disconnected", connection: id(1) });
    expect(sim.take()).toMatchObject([{ type: "remove", entry: { connection: 1 } }]);
    expect(take(sim)).toEqual([{ type: "taken", connection: 2 }]);
  });

  it("tells its homes that it drains, once, and nothing of one that is superseded", () => {
    const sim = holding(entry(1), entry(2)).tell({ type: "superseded", connection: id(2) });
    sim.take();
    for (const one of [1, 1, 2, 9]) sim.tell({ type: "drained", connection: id(one) });
    expect(sim.take()).toMatchObject([{ type: "put", entry: { connection: 1, draining: true } }]);
  });
});

describe("a new connection", () => {
  const pod = { instance: "pod" };
  it("closes the links it names as lost and no other of its process", () => {
    const sim = holding(entry(1, pod), entry(2, pod));
    sim.tell({ type: "connected", node, entry: entry(3, { ...pod, lost: [1] }) });
    expect(sim.take().filter((effect) => effect.type === "close")).toEqual([{ type: "close", connection: 1 }]);
  });

  it("closes every link of an older process of its instance, whatever the clock says", () => {
    const sim = holding(entry(1, { ...pod, since: 9_000 }), entry(2));
    sim.tell({ type: "connected", node, entry: entry(3, { ...pod, process: "q", since: 5 }) });
    expect(sim.take().filter((effect) => effect.type === "close")).toEqual([{ type: "close", connection: 1 }]);
  });
});
