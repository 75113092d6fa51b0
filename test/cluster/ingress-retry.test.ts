/** What an ingress sends to an agent again, and what it never does. */
import { describe, expect, it } from "vitest";
import { acceptsThenDies, answers, call, dies, diesAnswering, refuses, turns } from "../support/streams.ts";
import { agent, GET, PLACES, placed, WHOLE } from "./ingress-place.ts";

describe.each(PLACES)("a request for an agent %s", (_, names) => {
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
});
