/** Requests carried whole from their ingress to an agent's executor and back, or cancelled; real nodes under virtual time. */
import { describe, expect, it } from "vitest";
import { accepts, answers, answersEarly, call, diesAnswering, freezes, Heard, turns } from "../support/streams.ts";
import { agent, PLACES, placed, WHOLE } from "./ingress-place.ts";

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
