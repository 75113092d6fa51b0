/** Messages over the bus while it carries them, else over links, in the same envelopes. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type NodeId, type NodeName, nodeId } from "../../actors/ids.ts";
import { Envelopes } from "../../src/bus/envelopes.ts";
import { MemoryBroker } from "../../src/bus/memory.ts";
import { createSubjects } from "../../src/bus/subjects.ts";
import { BusMessenger } from "../../src/cluster/bus-messenger.ts";
import type { AskOutcome, WireMessage } from "../../src/cluster/messenger.ts";
import { type CtlLink, RelayedMessenger } from "../../src/cluster/relayed-messenger.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const subjects = createSubjects("kas", "test");
const secrets = [new Uint8Array(32).fill(7)];
const until = (condition: () => void) => vi.waitFor(condition, { interval: 1 });
const later = () => new Promise((resolve) => setImmediate(resolve));

type Node = ReturnType<typeof join>;
let broker: MemoryBroker;
let stack: AsyncDisposableStack;
let clock: VirtualClock;

function join(name: string) {
  const self = nodeId(name as NodeName, 1);
  const bus = stack.use(broker.connect(name));
  const envelopes = new Envelopes({ cluster: "test", self, secrets });
  const overBus = stack.use(new BusMessenger({ bus, subjects, envelopes, self }));
  const links = new Map<NodeId, CtlLink>();
  const messenger = stack.use(
    new RelayedMessenger({
      bus: overBus,
      envelopes,
      subjects,
      clock,
      self: () => self,
      links: () => links,
      linkTo: (node) => links.get(node) ?? null,
      silentAfter: 2_500,
    }),
  );
  const heard: string[] = [];
  const frames: Uint8Array[] = [];
  messenger.onMessage = (from, { type, body }, reply) => {
    heard.push(`${from} ${type}`);
    reply?.({ type: "answer", body });
  };
  return { self, bus, overBus, envelopes, messenger, links, heard, frames };
}

/** A link from `a` to `b` that is up. */
function connect(a: Node, b: Node): void {
  const back: CtlLink = { ctl: (payload) => void setImmediate(() => a.messenger.receive(payload, back)) };
  a.links.set(b.self, {
    ctl(payload) {
      a.frames.push(payload);
      setImmediate(() => b.messenger.receive(payload, back));
    },
  });
}

const ask = (from: Node, to: NodeId, message: WireMessage, within = 5_000) =>
  new Promise<AskOutcome>((resolve) => from.messenger.ask(to, message, within, resolve));

function pair() {
  const [a, b] = [join("a"), join("b")];
  connect(a, b);
  connect(b, a);
  return { a, b };
}

/** `a` has heard `b` on the bus. */
async function acquainted() {
  const { a, b } = pair();
  b.messenger.broadcast({ type: "hb", body: 0 });
  await until(() => expect(a.heard).toContain("b.1 hb"));
  a.heard.length = 0;
  a.frames.length = 0;
  return { a, b };
}

beforeEach(() => {
  broker = new MemoryBroker();
  stack = new AsyncDisposableStack();
  clock = new VirtualClock();
});
afterEach(() => stack.disposeAsync());

describe("with a bus that carries", () => {
  it("sends and asks over the bus, and nothing over links", async () => {
    const { a, b } = await acquainted();
    a.messenger.send(b.self, { type: "delta", body: 1 });
    expect(await ask(a, b.self, { type: "lookup", body: [7] })).toMatchObject({ message: { body: [7] } });
    expect(b.heard).toContain("a.1 delta");
    expect(a.frames).toEqual([]);
  });

  it("tells over its link whoever said nothing on the bus for 2.5 s, heartbeats included", async () => {
    const { a, b } = await acquainted();
    clock.advance(2_501);
    a.messenger.send(b.self, { type: "delta", body: 1 });
    a.messenger.broadcast({ type: "hb", body: 2 });
    expect(a.frames).toHaveLength(2);
    await until(() => expect(b.heard.filter((line) => line === "a.1 hb").length).toBeGreaterThan(1));
  });

  it("asks over the link when nobody of that name reads on the bus", async () => {
    const { a, b } = await acquainted();
    b.overBus[Symbol.dispose]();
    expect(await ask(a, b.self, { type: "lookup", body: [8] })).toMatchObject({
      type: "answer",
      message: { body: [8] },
    });
    expect(a.frames).toHaveLength(1);
  });
});

describe("without a bus", () => {
  it("broadcasts, sends, asks and answers over links", async () => {
    const { a, b } = await acquainted();
    broker.stop();
    expect(a.messenger).toMatchObject({ connected: false, reachesOthers: true });
    a.messenger.broadcast({ type: "hb", body: 1 });
    a.messenger.send(b.self, { type: "delta", body: 2 });
    expect(await ask(a, b.self, { type: "lookup", body: [9] })).toMatchObject({
      message: { type: "answer", body: [9] },
    });
    expect(b.heard).toEqual(["a.1 hb", "a.1 delta", "a.1 lookup"]);
    expect(clock.pending).toBe(0);
  });

  it("ends an ask at its deadline, and at once where there is no link", async () => {
    const { a, b } = await acquainted();
    broker.stop();
    b.messenger.onMessage = () => {};
    const asking = ask(a, b.self, { type: "lookup", body: 0 }, 150);
    await later();
    clock.advance(150);
    expect(await asking).toEqual({ type: "timeout" });
    a.links.clear();
    expect(a.messenger.reachesOthers).toBe(false);
    const nowhere = ask(a, b.self, { type: "lookup", body: 0 });
    clock.advance(0);
    expect(await nowhere).toEqual({ type: "timeout" });
  });

  it("takes nothing twice, from whichever way, nothing that is for another, and no answer of another", async () => {
    const { a, b } = await acquainted();
    const c = join("c");
    connect(a, c);
    const nowhere: CtlLink = { ctl() {} };
    const sealed = a.envelopes.seal(subjects.node(b.self), "", "once", 1);
    b.messenger.receive(sealed, nowhere);
    b.messenger.receive(sealed, nowhere);
    a.bus.publish(subjects.node(b.self), sealed);
    c.messenger.receive(a.envelopes.seal(subjects.node(b.self), "", "stray", 1), nowhere);
    await until(() => expect(b.envelopes.refused.replay).toBe(2));
    expect(b.heard.filter((line) => line === "a.1 once")).toHaveLength(1);
    expect(c.heard).not.toContain("a.1 stray");

    broker.stop();
    b.messenger.onMessage = () => {};
    const asking = ask(a, b.self, { type: "lookup", body: 0 }, 100);
    a.messenger.receive(c.envelopes.seal("a.1/1", "", "answer", "forged"), nowhere);
    clock.advance(100);
    expect(await asking).toEqual({ type: "timeout" });
  });

  it("ends what it asked when it is disposed", async () => {
    const { a, b } = await acquainted();
    broker.stop();
    b.messenger.onMessage = () => {};
    const asking = ask(a, b.self, { type: "lookup", body: 0 });
    a.messenger[Symbol.dispose]();
    expect(await asking).toEqual({ type: "timeout" });
    expect(clock.pending).toBe(0);
  });
});

describe("a node that takes another name", () => {
  it("is heard and hears under it, and no more under the old one", async () => {
    const { b } = await acquainted();
    const a = join("z");
    const renamed = nodeId("z" as NodeName, 9);
    a.overBus.renamed(renamed);
    b.messenger.send(a.self, { type: "old", body: 0 });
    b.messenger.send(renamed, { type: "new", body: 0 });
    await until(() => expect(a.heard).toEqual(["b.1 new"]));
    a.overBus.broadcast({ type: "hb", body: 0 });
    await until(() => expect(b.heard).toContain("z.9 hb"));
    expect(a.bus.counts().subscriptions).toBe(3);
  });
});
