/** Requests from their ingress to an agent's executor and back: real routing, holders and links under virtual time. */
import { describe, expect, it } from "vitest";
import type { FailureCode } from "../../actors/failure.ts";
import type { AgentId } from "../../actors/ids.ts";
import type { RouteRequest } from "../../src/cluster/router.ts";
import { StreamCluster } from "../support/stream-cluster.ts";
import type { Kas } from "../support/stream-node.ts";
import {
  accepts,
  acceptsThenDies,
  answers,
  answersEarly,
  type Behaviour,
  call,
  dies,
  diesAnswering,
  freezes,
  Heard,
  refuses,
  resets,
  stalls,
  turns,
} from "../support/streams.ts";

const agent = 7 as AgentId;
const GET = { method: "GET", idempotent: true } satisfies Partial<RouteRequest>;
const WHOLE = ["accepted", "head", "data", "trailer", "end", "closed"];

/** The same expectations for an agent held at the ingress and at another node. */
const PLACES = [
  ["held here", ["a"]],
  ["held by another node", ["a", "b"]],
] as const;

type Place = { readonly cluster: StreamCluster; readonly ingress: Kas; readonly holder: Kas; readonly hop: string };

async function place(names: readonly string[]): Promise<Place> {
  const [cluster, ingress, holder] = await StreamCluster.of(...names);
  if (!ingress) throw new RangeError("no node");
  return { cluster, ingress, holder: holder ?? ingress, hop: holder ? "remote" : "local" };
}

/** One agent connected and known to the homes. */
async function placed(names: readonly string[], ...behaviours: Behaviour[]) {
  const at = await place(names);
  const agents = [];
  for (const behaviour of behaviours) agents.push(await at.holder.agent(agent, behaviour));
  await at.cluster.pass(500);
  return { ...at, agents };
}

describe.each(PLACES)("a request for an agent %s", (_, names) => {
  it("is carried whole, its answer too, and leaves nothing", async () => {
    const { cluster, ingress, hop } = await placed(names, answers("hello"));
    await using _all = cluster;
    const { stream, heard } = call(ingress.router, agent, {}, "body");
    expect(heard.told).toEqual([]);
    await cluster.until(() => heard.isOver);
    expect(heard.told).toEqual(WHOLE);
    expect([heard.body.toString(), cluster.served[0]?.body.toString()]).toEqual(["hello", "body"]);
    expect(stream.route).toMatchObject({ hop, attempts: 1, node: cluster.nodes.at(-1)?.id });
    expect(ingress.meter.closes).toEqual([`http ${hop} done`]);
    expect([ingress.meter.routes, ingress.meter.unrouteds]).toEqual([[`${hop} 1`], []]);
    expect(ingress.meter.bytesOut).toBe(4);
    cluster.expectQuiet();
  });

  it("is tried at once on another connection when the first refuses, whatever its method", async () => {
    const { cluster, ingress } = await placed(names, refuses(), refuses());
    await using _all = cluster;
    cluster.served.length = 0;
    await (cluster.nodes.at(-1) ?? ingress).agent(agent, answers("third"));
    await cluster.pass(500);
    const { stream, heard } = call(ingress.router, agent, {}, "x".repeat(50_000));
    await cluster.until(() => heard.isOver, 3_000);
    expect(heard.told).toEqual(WHOLE);
    expect(cluster.served.map(({ body }) => body.length)).toEqual([50_000]);
    expect(stream.route?.attempts).toBe(ingress.meter.opens.length);
    cluster.expectQuiet();
  });

  it.each([
    ["dies", dies],
    ["accepts, then dies", acceptsThenDies],
  ] as const)(
    "ends as outcome-unknown when the agent %s and it is not idempotent, and is handed to nobody else",
    async (_what, behaviour) => {
      const { cluster, ingress } = await placed(names, behaviour, behaviour);
      await using _all = cluster;
      const { heard } = call(ingress.router, agent, {}, "once");
      await cluster.until(() => heard.isOver);
      await cluster.pass(3_000);
      expect(heard.told.at(-2)).toBe("reset outcome-unknown");
      expect(heard.told.filter((what) => what === "closed")).toHaveLength(1);
      expect(cluster.served).toHaveLength(1);
      cluster.expectQuiet();
    },
  );

  it.each([
    ["dies", dies],
    ["accepts, then dies", acceptsThenDies],
  ] as const)(
    "is tried again when it is idempotent and the agent %s; its caller hears of one acceptance",
    async (_what, behaviour) => {
      const { cluster, ingress, holder } = await placed(names, behaviour);
      await using _all = cluster;
      const { heard, stream } = call(ingress.router, agent, GET);
      await cluster.until(() => cluster.served.length === 1);
      await turns();
      await holder.agent(agent, answers("again"));
      await cluster.until(() => heard.isOver);
      expect(heard.told).toEqual(WHOLE);
      expect(cluster.served).toHaveLength(2);
      expect(stream.route?.attempts).toBeGreaterThan(1);
      expect(ingress.meter.routes).toHaveLength(1);
      cluster.expectQuiet();
    },
  );

  it("sends what the caller writes between a lost acceptance and the next attempt", async () => {
    const { cluster, ingress, holder } = await placed(names, acceptsThenDies);
    await using _all = cluster;
    const { heard, stream } = call(ingress.router, agent, GET, null);
    await cluster.until(() => [...holder.holder.connections()].length === 0);
    stream.data(Buffer.from("late "));
    stream.data(Buffer.from("body"));
    stream.end();
    expect(stream.queued).toBe(9);
    await holder.agent(agent, answers());
    await cluster.until(() => heard.isOver);
    expect(heard.told).toEqual(WHOLE);
    expect(cluster.served.at(-1)?.body.toString()).toBe("late body");
  });

  it("is not repeated, though idempotent, when some of its body had been sent to an agent that accepted", async () => {
    const { cluster, ingress, holder } = await placed(names, acceptsThenDies);
    await using _all = cluster;
    const { heard } = call(ingress.router, agent, GET, "body");
    await cluster.until(() => heard.told.includes("accepted"));
    await holder.agent(agent, answers());
    await cluster.until(() => heard.isOver);
    expect(heard.told).toEqual(["accepted", "reset outcome-unknown", "closed"]);
  });

  it("is not repeated, though idempotent, once some of an answer was delivered", async () => {
    const { cluster, ingress } = await placed(names, diesAnswering, diesAnswering);
    await using _all = cluster;
    const { heard } = call(ingress.router, agent, GET);
    await cluster.until(() => heard.isOver);
    expect(heard.told).toEqual(["accepted", "head", "data", "reset outcome-unknown", "closed"]);
    expect(cluster.served).toHaveLength(1);
  });

  it("is never repeated when it is an upgrade, whatever its caller claims", async () => {
    const { cluster, ingress } = await placed(names, dies, dies);
    await using _all = cluster;
    const { heard } = call(ingress.router, agent, { ...GET, upgrade: true });
    await cluster.until(() => heard.isOver);
    expect(heard.told).toEqual(["reset outcome-unknown", "closed"]);
    expect(cluster.served).toHaveLength(1);
  });

  it("says of an upgrade that may be starting as its time ends that the outcome is unknown", async () => {
    const { cluster, ingress } = await placed(names, stalls);
    await using _all = cluster;
    const upgrade = call(ingress.router, agent, { upgrade: true, acceptWithin: 500 });
    const plain = call(ingress.router, agent, { acceptWithin: 500 });
    await cluster.until(() => upgrade.heard.isOver && plain.heard.isOver);
    expect(upgrade.heard.told).toEqual(["reset outcome-unknown", "closed"]);
    expect(plain.heard.told).toEqual(["reset deadline", "closed"]);
    expect(ingress.meter.closes.toSorted().map((line) => line.split(" ")[2])).toEqual(["deadline", "outcome-unknown"]);
    await cluster.until(() => cluster.served.every(({ isOver }) => isOver));
    cluster.expectQuiet();
  });

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

  it("reaches the agent with its cancellation at once, and leaves nothing", async () => {
    const { cluster, ingress, hop } = await placed(names, accepts);
    await using _all = cluster;
    const { heard, stream } = call(ingress.router, agent, {}, "x".repeat(300_000));
    await cluster.until(() => heard.told.includes("accepted"));
    stream.reset({ failure: { code: "cancelled", reason: "the caller left" }, unprocessed: false });
    expect(heard.told).toEqual(["accepted", "closed"]);
    const before = cluster.cluster.clock.now();
    for (let turn = 0; turn < 100 && !cluster.served[0]?.isOver; turn++) await turns(1);
    expect(cluster.served[0]?.told.slice(-2)).toEqual(["reset cancelled", "closed"]);
    expect(cluster.cluster.clock.now()).toBe(before);
    await turns();
    expect(ingress.meter.closes).toEqual([`http ${hop} cancelled`]);
    cluster.expectQuiet();
  });

  it("is not sent at all when it is cancelled in the turn it was opened in", async () => {
    const { cluster, ingress } = await placed(names, answers());
    await using _all = cluster;
    const { heard, stream } = call(ingress.router, agent);
    stream.reset({ failure: { code: "cancelled", reason: "" }, unprocessed: false });
    expect(heard.told).toEqual(["closed"]);
    await turns();
    expect(cluster.served).toEqual([]);
    cluster.expectQuiet();
  });

  it("delivers an answer that came before the body ended, and reads on without forwarding", async () => {
    const { cluster, ingress } = await placed(names, answersEarly);
    await using _all = cluster;
    const { heard, stream } = call(ingress.router, agent, {}, null);
    for (let i = 0; i < 10; i++) stream.data(new Uint8Array(64 * 1024));
    await cluster.until(() => heard.isOver);
    expect(heard.told).toContain("stopped");
    expect(heard.told.filter((what) => what !== "stopped")).toEqual(WHOLE);
    expect(heard.body.toString()).toBe("early");
    stream.data(new Uint8Array(10));
    stream.end();
    expect(stream.queued).toBe(0);
    cluster.expectQuiet();
  });

  it("lets at most 64 KiB through before it is accepted; the rest waits in `queued`", async () => {
    const { cluster, ingress } = await placed(names, freezes);
    await using _all = cluster;
    const { heard, stream } = call(ingress.router, agent, {}, null);
    // As a caller that paces itself: it stops while more than 64 KiB wait.
    let given = 0;
    for (let i = 0; i < 100; i++) {
      if (stream.queued <= 64 * 1024) {
        stream.data(new Uint8Array(16 * 1024));
        given += 16 * 1024;
      }
      await turns(2);
    }
    expect(cluster.served[0]?.body.length).toBe(64 * 1024);
    expect(given).toBeLessThanOrEqual(64 * 1024 + 80 * 1024);
    expect([heard.sentBytes, stream.queued]).toEqual([64 * 1024, given - 64 * 1024]);
    const [served] = cluster.served;
    served?.stream?.accept();
    served?.stream?.consumed(64 * 1024);
    await cluster.until(() => stream.queued === 0);
    expect(heard.sentBytes).toBe(given);
    stream.end();
    await cluster.until(() => served?.told.includes("end") ?? false);
    served?.answer();
    await cluster.until(() => heard.isOver);
    expect(heard.told).toEqual(WHOLE);
  });

  it("ends with deadline when an agent accepted and its answer did not end in the time left, and tells the agent", async () => {
    const { cluster, ingress } = await placed(names, accepts);
    await using _all = cluster;
    const { heard } = call(ingress.router, agent, { timeLeft: 2_000 });
    await cluster.pass(1_900);
    expect(heard.told).toEqual(["accepted"]);
    await cluster.pass(200);
    expect(heard.told).toEqual(["accepted", "reset deadline", "closed"]);
    expect(heard.ending?.failure.reason).toContain("within 2 s");
    expect(cluster.served[0]?.told.slice(-2)).toEqual(["reset deadline", "closed"]);
    expect(ingress.meter.closes.map((line) => line.split(" ")[2])).toEqual(["deadline"]);
    cluster.expectQuiet();
  });

  it("forgets the time left when the answer ended in it", async () => {
    const { cluster, ingress } = await placed(names, answers());
    await using _all = cluster;
    const { heard } = call(ingress.router, agent, { timeLeft: 60_000 });
    await cluster.until(() => heard.isOver);
    expect(heard.told).toEqual(WHOLE);
  });

  it("writes the time that is left into each OPEN", async () => {
    const { cluster, ingress, holder } = await placed(names, answers());
    await using _all = cluster;
    [...holder.holder.connections()][0]?.link.destroy({ code: "node-gone", reason: "" });
    const { heard } = call(ingress.router, agent, { acceptWithin: 10_000, timeLeft: 12_000 });
    await cluster.pass(3_000);
    await holder.agent(agent, answers());
    await cluster.until(() => heard.isOver);
    const [served] = cluster.served;
    expect(served?.open.acceptWithin).toBeLessThanOrEqual(7_000);
    expect(served?.open.acceptWithin).toBeGreaterThan(5_000);
    expect(served?.open.timeLeft).toBe((served?.open.acceptWithin ?? 0) + 2_000);
  });

  it("goes to the connection that it waited for, at the first attempt", async () => {
    const { cluster, ingress, holder } = await placed(names);
    await using _all = cluster;
    const { heard, stream } = call(ingress.router, agent, {}, "patient");
    await cluster.pass(2_000);
    await holder.agent(agent, answers());
    await cluster.until(() => heard.isOver);
    expect(heard.told).toEqual(WHOLE);
    expect([stream.route?.attempts, ingress.meter.opens.length]).toEqual([1, 1]);
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

  it.each(["accepted", "head", "data", "end", "sent", "closed", "reset"] as const)(
    "hurts nobody else when its caller's handler throws at `%s`",
    async (method) => {
      const { cluster, ingress } = await placed(names, method === "reset" ? diesAnswering : answers());
      await using _all = cluster;
      const agents = [...cluster.nodes.flatMap(({ holder }) => [...holder.connections()])];
      const beside = method === "reset" ? null : call(ingress.router, agent, {}, null);
      const heard = new Heard();
      const said = heard[method].bind(heard) as (value: never) => void;
      heard[method] = (value?: unknown) => {
        said(value as never);
        throw new Error(`thrown at ${method}`);
      };
      call(ingress.router, agent, {}, "body", heard);
      await cluster.until(() => heard.isOver);
      await turns();
      expect(cluster.nodes.flatMap(({ faults }) => faults).length).toBeGreaterThan(0);
      if (beside) {
        beside.stream.end();
        await cluster.until(() => beside.heard.isOver);
        expect(beside.heard.told).toEqual(WHOLE);
        expect(agents.map(({ link }) => link.state)).toEqual(["up"]);
      }
      expect(heard.told.filter((what) => what === "closed")).toHaveLength(1);
      cluster.expectQuiet();
    },
  );
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
