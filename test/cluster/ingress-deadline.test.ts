/** The time a request has at its ingress, to be accepted and to be answered. */
import { describe, expect, it } from "vitest";
import { accepts, answers, call, stalls } from "../support/streams.ts";
import { agent, PLACES, placed, WHOLE } from "./ingress-place.ts";

describe.each(PLACES)("a request for an agent %s", (_, names) => {
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
});
