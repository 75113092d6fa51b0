import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type NodeId, type NodeName, nodeId } from "../../actors/ids.ts";
import { Envelopes } from "../../src/bus/envelopes.ts";
import { MemoryBroker } from "../../src/bus/memory.ts";
import { createSubjects } from "../../src/bus/subjects.ts";
import { BusMessenger } from "../../src/cluster/bus-messenger.ts";
import type { AskOutcome, WireMessage } from "../../src/cluster/messenger.ts";

const subjects = createSubjects("kas", "test");
const secrets = [new Uint8Array(32).fill(7)];
const until = (condition: () => void) => vi.waitFor(condition, { interval: 1 });

describe("the messenger over a bus", () => {
  let broker: MemoryBroker;
  let stack: AsyncDisposableStack;

  beforeEach(() => {
    broker = new MemoryBroker();
    stack = new AsyncDisposableStack();
  });
  afterEach(() => stack.disposeAsync());

  function join(name: string) {
    const self = nodeId(name as NodeName, 1);
    const bus = stack.use(broker.connect(name));
    const envelopes = new Envelopes({ cluster: "test", self, secrets });
    const messenger = stack.use(new BusMessenger({ bus, subjects, envelopes, self }));
    const heard: string[] = [];
    messenger.onMessage = (from, { type, body }, reply) => {
      heard.push(`${from} ${type}`);
      reply?.({ type: "answer", body });
      reply?.({ type: "second answer", body });
    };
    return { self, bus, envelopes, messenger, heard };
  }
  const ask = (from: BusMessenger, to: NodeId, message: WireMessage, within = 5_000) =>
    new Promise<AskOutcome>((resolve) => from.ask(to, message, within, resolve));

  it("brings a broadcast to all but its sender, and heartbeats on a subject of their own", async () => {
    const [a, b, c] = [join("a"), join("b"), join("c")];
    const all: string[] = [];
    using _all = c.bus.subscribe(subjects.all, () => all.push("all"));
    using _heartbeat = c.bus.subscribe(subjects.heartbeat, () => all.push("heartbeat"));

    a.messenger.broadcast({ type: "hb", body: [1] });
    a.messenger.broadcast({ type: "whohas", body: [2] });

    await until(() => expect(c.heard).toEqual(["a.1 hb", "a.1 whohas"]));
    expect(b.heard).toEqual(["a.1 hb", "a.1 whohas"]);
    expect(a.heard).toEqual([]);
    expect(all).toEqual(["heartbeat", "all"]);
  });

  it("sends to one node only", async () => {
    const [a, b, c] = [join("a"), join("b"), join("c")];
    a.messenger.send(b.self, { type: "delta", body: null });
    a.messenger.broadcast({ type: "last", body: null });

    await until(() => expect(c.heard).toEqual(["a.1 last"]));
    expect(b.heard).toEqual(["a.1 delta", "a.1 last"]);
  });

  it("brings the first answer of the node that was asked", async () => {
    const [a, b] = [join("a"), join("b")];
    expect(await ask(a.messenger, b.self, { type: "lookup", body: [1, "x"] })).toEqual({
      type: "answer",
      message: { type: "answer", body: [1, "x"] },
    });
    expect(b.heard).toEqual(["a.1 lookup"]);
    expect(b.bus.counts().published).toBe(1);
  });

  it("says that nobody of that name is on the bus, and that one does not answer", async () => {
    const [a, b] = [join("a"), join("b")];
    expect(await ask(a.messenger, nodeId("gone" as NodeName, 3), { type: "lookup", body: 0 })).toEqual({
      type: "no-responders",
    });
    b.messenger.onMessage = () => {};
    expect(await ask(a.messenger, b.self, { type: "lookup", body: 0 }, 10)).toEqual({ type: "timeout" });
  });

  it("believes no answer that another node signed", async () => {
    const a = join("a");
    const b = nodeId("b" as NodeName, 1);
    const mallory = new Envelopes({ cluster: "test", self: nodeId("m" as NodeName, 1), secrets });
    using _held = a.bus.subscribe(subjects.node(b), (_payload, reply) =>
      a.bus.publish(reply, mallory.seal(reply, "", "answer", "forged")),
    );
    expect(await ask(a.messenger, b, { type: "lookup", body: 0 })).toEqual({ type: "timeout" });
  });

  it("drops what is unsigned, repeated, or was sent to another subject", async () => {
    const [a, b] = [join("a"), join("b")];
    const outside = join("outside").bus;
    const sealed = a.envelopes.seal(subjects.all, "", "once", 1);
    outside.publish(subjects.all, new TextEncoder().encode("hello"));
    outside.publish(subjects.node(b.self), sealed);
    outside.publish(subjects.all, sealed);
    outside.publish(subjects.all, sealed);
    a.messenger.send(b.self, { type: "last", body: null });

    await until(() => expect(b.heard).toContain("a.1 last"));
    expect(b.heard).toEqual(["a.1 once", "a.1 last"]);
    expect(b.envelopes.refused).toMatchObject({ malformed: 1, subject: 1, replay: 1 });
  });

  it("tells when the bus is lost and found", async () => {
    const a = join("a");
    const changes: boolean[] = [];
    a.messenger.onConnection = (connected) => changes.push(connected);
    broker.stop();
    expect(a.messenger.connected).toBe(false);
    await until(() => expect(changes).toEqual([false]));
    broker.start();
    await until(() => expect(changes).toEqual([false, true]));
  });

  it("leaves no subscription behind", async () => {
    const a = join("a");
    expect(a.bus.counts().subscriptions).toBe(3);
    a.messenger[Symbol.dispose]();
    expect(a.bus.counts().subscriptions).toBe(0);
  });
});
