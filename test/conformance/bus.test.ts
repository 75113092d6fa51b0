/** What every bus does, whatever it is made of. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { NodeName } from "../../actors/ids.ts";
import { type Bus, MAX_PAYLOAD_BYTES, MAX_REQUESTS, type RequestOutcome } from "../../src/bus/bus.ts";
import { MemoryBroker } from "../../src/bus/memory.ts";
import { connectNats } from "../../src/bus/nats.ts";
import { natsAvailable, startNatsServer } from "../support/nats-server.ts";

interface Broker extends AsyncDisposable {
  connect(name: string): Bus;
  stop(): Promise<void>;
  start(): Promise<void>;
  readonly problems: readonly string[];
}

async function memory(): Promise<Broker> {
  const problems: string[] = [];
  const broker = new MemoryBroker({ problem: (message) => problems.push(message) });
  return {
    problems,
    connect: (name) => broker.connect(name),
    stop: async () => broker.stop(),
    start: async () => broker.start(),
    [Symbol.asyncDispose]: async () => {},
  };
}

async function nats(): Promise<Broker> {
  const server = await startNatsServer();
  const problems: string[] = [];
  const problem = (message: string) => problems.push(message);
  return {
    problems,
    connect: (name) => connectNats({ servers: [server.url], name: name as NodeName, reconnectWait: 20, problem }),
    stop: () => server.kill(),
    start: () => server.start(),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (payload: Uint8Array) => new TextDecoder().decode(payload);
const until = (condition: () => void) => vi.waitFor(condition, { timeout: 8_000, interval: 5 });

describe.each([
  { name: "memory", start: memory, skip: false },
  { name: "nats", start: nats, skip: !natsAvailable() },
])("a bus over $name", ({ start, skip }) => {
  let broker: Broker;
  let a: Bus;
  let b: Bus;

  async function connected(name: string): Promise<Bus> {
    const bus = broker.connect(name);
    await until(() => expect(bus.connected).toBe(true));
    return bus;
  }
  const ask = (bus: Bus, subject: string, payload: string, within: number) =>
    new Promise<RequestOutcome>((resolve) => bus.request(subject, () => bytes(payload), within, resolve));

  beforeEach(async ({ skip: skipThis }) => {
    if (skip) skipThis();
    broker = await start();
    a = await connected("a");
    b = await connected("b");
  });

  afterEach(async () => {
    if (skip) return;
    await a[Symbol.asyncDispose]();
    await b[Symbol.asyncDispose]();
    for (const bus of [a, b]) expect(bus.counts()).toMatchObject({ subscriptions: 0, requests: 0 });
    await broker[Symbol.asyncDispose]();
  });

  it("delivers what is published to every subscriber of the subject, in order, and to no other", async () => {
    const heard: string[] = [];
    using _one = b.subscribe("x.y", (payload) => heard.push(`b ${text(payload)}`));
    using _two = a.subscribe("x.y", (payload) => heard.push(`a ${text(payload)}`));
    using _other = b.subscribe("x.z", (payload) => heard.push(`other ${text(payload)}`));
    expect(await a.flush(1_000)).toBe(true);
    expect(await b.flush(1_000)).toBe(true);

    for (const message of ["1", "2", "3"]) a.publish("x.y", bytes(message));

    await until(() => expect(heard.length).toBe(6));
    expect(heard.filter((entry) => entry.startsWith("b"))).toEqual(["b 1", "b 2", "b 3"]);
    expect(heard.filter((entry) => entry.startsWith("a"))).toEqual(["a 1", "a 2", "a 3"]);
    expect(a.counts()).toMatchObject({ published: 3, dropped: 0 });
    expect(b.counts()).toMatchObject({ received: 3, subscriptions: 2 });
  });

  it("never delivers within the turn of the publish", async () => {
    let heard = 0;
    using _held = a.subscribe("x", () => (heard += 1));
    await a.flush(1_000);

    a.publish("x", bytes("1"));

    expect(heard).toBe(0);
    await until(() => expect(heard).toBe(1));
  });

  it("delivers nothing to a subscription that was disposed", async () => {
    const heard: string[] = [];
    const gone = b.subscribe("x", () => heard.push("gone"));
    using _stays = b.subscribe("x", () => heard.push("stays"));
    gone[Symbol.dispose]();
    await b.flush(1_000);

    a.publish("x", bytes("1"));

    await until(() => expect(heard).toContain("stays"));
    expect(heard).toEqual(["stays"]);
    expect(b.counts().subscriptions).toBe(1);
  });

  it("brings the answer of a request, and says where it will arrive before it is asked", async () => {
    using _held = b.subscribe("echo", (payload, reply) => b.publish(reply, bytes(`${text(payload)}!`)));
    await b.flush(1_000);
    const replies: string[] = [];

    const outcomes = await Promise.all(
      ["1", "2"].map(
        (payload) =>
          new Promise<RequestOutcome>((resolve) => {
            const seal = (reply: string) => {
              replies.push(reply);
              return bytes(payload);
            };
            a.request("echo", seal, 5_000, resolve);
          }),
      ),
    );

    expect(outcomes.map((o) => (o.type === "answer" ? text(o.payload) : o.type))).toEqual(["1!", "2!"]);
    expect(new Set(replies).size).toBe(2);
    expect(replies.every((reply) => reply.startsWith("_INBOX_a."))).toBe(true);
    expect(a.counts().requests).toBe(0);
  });

  it("reports at once that nobody subscribes to the subject of a request", async () => {
    expect(await ask(a, "nobody", "1", 60_000)).toEqual({ type: "no-responders" });
    expect(a.counts().requests).toBe(0);
  });

  it("ends a request that is never answered at its deadline, and drops the late answer", async () => {
    const replies: string[] = [];
    using _held = b.subscribe("silent", (_payload, reply) => replies.push(reply));
    await b.flush(1_000);

    expect(await ask(a, "silent", "1", 30)).toEqual({ type: "timeout" });

    await until(() => expect(replies.length).toBe(1));
    b.publish(replies[0] ?? "", bytes("late"));
    await b.flush(1_000);
    expect(a.counts().requests).toBe(0);
  });

  it("refuses more requests than it may hold", async () => {
    using _held = b.subscribe("silent", () => {});
    await b.flush(1_000);
    const ended: string[] = [];
    for (let i = 0; i < MAX_REQUESTS; i++)
      a.request(
        "silent",
        () => bytes("1"),
        60_000,
        () => ended.push("early"),
      );

    expect(await ask(a, "silent", "one more", 60_000)).toEqual({ type: "timeout" });

    expect(ended).toEqual([]);
    expect(a.counts()).toMatchObject({ requests: MAX_REQUESTS, dropped: 1 });
  });

  it("drops and counts what is too large", async () => {
    let heard = 0;
    using _held = b.subscribe("x", () => (heard += 1));
    await b.flush(1_000);

    a.publish("x", new Uint8Array(MAX_PAYLOAD_BYTES + 1));
    a.publish("x", new Uint8Array(MAX_PAYLOAD_BYTES));

    await until(() => expect(heard).toBe(1));
    expect(a.counts()).toMatchObject({ published: 1, dropped: 1 });
  });

  it("survives a handler that throws", async () => {
    let heard = 0;
    using _bad = b.subscribe("x", () => {
      throw new Error("a bug");
    });
    using _good = b.subscribe("x", () => (heard += 1));
    await b.flush(1_000);

    a.publish("x", bytes("1"));
    a.publish("x", bytes("2"));

    await until(() => expect(heard).toBe(2));
    expect(broker.problems).toEqual(["a handler of the bus failed", "a handler of the bus failed"]);
    expect(b.connected).toBe(true);
  });

  it("says when the connection is lost, keeps nothing meanwhile, and subscribes again when it is back", async () => {
    const changes: boolean[] = [];
    a.onConnection = (connected) => changes.push(connected);
    const heard: string[] = [];
    using _held = b.subscribe("x", (payload) => heard.push(text(payload)));
    await b.flush(1_000);

    await broker.stop();
    await until(() => expect([a.connected, b.connected]).toEqual([false, false]));
    a.publish("x", bytes("lost"));
    expect(a.counts()).toMatchObject({ published: 0, dropped: 1 });
    expect(await a.flush(50)).toBe(false);
    expect(await ask(a, "x", "1", 20)).toEqual({ type: "timeout" });

    await broker.start();
    await until(() => expect([a.connected, b.connected]).toEqual([true, true]));
    await b.flush(1_000);
    a.publish("x", bytes("after"));

    await until(() => expect(heard).toEqual(["after"]));
    await until(() => expect(changes).toEqual([false, true]));
    expect(a.counts().reconnects).toBe(1);
  });

  it("ends open requests when it is disposed, and is silent afterwards", async () => {
    const heard: string[] = [];
    b.subscribe("x", () => heard.push("b"));
    using _stays = a.subscribe("x", () => heard.push("a"));
    await b.flush(1_000);
    await a.flush(1_000);
    const asked = ask(b, "x", "1", 60_000);
    await until(() => expect(heard).toContain("a"));

    await b[Symbol.asyncDispose]();

    expect(await asked).toEqual({ type: "timeout" });
    expect(b.connected).toBe(false);
    heard.length = 0;
    b.publish("x", bytes("2"));
    a.publish("x", bytes("3"));
    await until(() => expect(heard).toEqual(["a"]));
    expect(b.counts().dropped).toBe(1);
    expect(await ask(b, "x", "1", 60_000)).toEqual({ type: "timeout" });
  });

  it("sends the last words before it is gone", async () => {
    const heard: string[] = [];
    using _held = a.subscribe("x", (payload) => heard.push(text(payload)));
    await a.flush(1_000);

    b.publish("x", bytes("left"));
    await b[Symbol.asyncDispose]();

    await until(() => expect(heard).toEqual(["left"]));
  });
});
