/** The listener on real sockets: its address and port, its limit of handshakes, and what it leaves behind. */
import type { Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { Failed } from "../../src/failed.ts";
import { parseAddress } from "../../src/net/address.ts";
import { listen } from "../../src/net/listener.ts";
import { until } from "../proxy/harness.ts";
import { VirtualClock } from "../support/virtual-clock.ts";
import { dial, greet, portOf, reasonOf } from "./listener-sockets.ts";

describe("a listener", () => {
  it("says which port it took, hands sockets on with half-close kept, and counts them", async () => {
    await using listener = await listen({ address: "127.0.0.1:0", onSocket: greet });
    expect(listener.address).toMatch(/^127\.0\.0\.1:[1-9]\d*$/);
    const client = dial(listener);
    await until(() => client.seen === "hello", "it greets");
    expect(listener.connections).toBe(1);
    client.end("bye");
    await until(() => client.seen === "helloecho bye", "it answers after our end");
    await until(() => listener.connections === 0, "it forgets the socket");
  });

  it.each([":0", "[::1]:0", "localhost:0"])("takes the address %s", async (address) => {
    await using listener = await listen({ address, onSocket: greet });
    expect(portOf(listener)).toBeGreaterThan(0);
    if (address.startsWith("[")) expect(listener.address).toMatch(/^\[::1\]:\d+$/);
  });

  it("accepts nothing after close, while open sockets live on", async () => {
    await using listener = await listen({ address: "127.0.0.1:0", onSocket: greet });
    const client = dial(listener);
    await until(() => client.seen === "hello", "it greets");
    listener.close();
    const late = dial(listener);
    await until(() => late.closed, "it is refused");
    expect(late.seen).toBeUndefined();
    client.write("still");
    await until(() => client.seen === "helloecho still", "the old one is served");
    client.end();
  });

  it("leaves no socket behind when it is disposed", async () => {
    const listener = await listen({ address: "127.0.0.1:0", onSocket: () => {} });
    const client = dial(listener);
    await until(() => listener.connections === 1, "it is accepted");
    await listener[Symbol.asyncDispose]();
    expect(listener.connections).toBe(0);
    await until(() => client.closed || client.readableEnded, "the client sees it");
    client.destroy();
  });

  it("drops a socket that its receiver cannot serve, and goes on", async () => {
    let calls = 0;
    const warnings: string[] = [];
    const onSocket = (socket: Socket) => {
      calls += 1;
      if (calls === 1) throw new Error("cannot");
      greet(socket);
    };
    const log = { info() {}, warn: (text: string) => void warnings.push(text) };
    await using listener = await listen({ name: "api", address: "127.0.0.1:0", onSocket, log });
    const dropped = dial(listener);
    await until(() => dropped.closed || dropped.readableEnded, "the first is dropped");
    const served = dial(listener);
    await until(() => served.seen === "hello", "the second is served");
    expect(warnings).toEqual([expect.stringContaining("the listener api dropped a socket")]);
    dropped.destroy();
    served.destroy();
  });

  it("says what to do when the port is taken", async () => {
    await using listener = await listen({ address: "127.0.0.1:0", onSocket: greet });
    const reason = await reasonOf(listen({ name: "agent", address: listener.address, onSocket: greet }));
    expect(reason).toContain(`the listener agent cannot listen on ${listener.address}`);
    expect(reason).toContain("another process has that port");
  });

  it("shares its port when asked to", async () => {
    await using one = await listen({ address: "127.0.0.1:0", onSocket: greet, reusePort: true });
    await using two = await listen({ address: one.address, onSocket: greet, reusePort: true });
    expect(two.address).toBe(one.address);
  });

  it.each(["8150", "host", "host:", "host:99999", "::1:80", "a b:1", "host:1x"])(
    "refuses the address %s",
    (address) => {
      expect(() => parseAddress(address)).toThrow(Failed);
    },
  );
});

describe("a listener with a limit of handshakes", () => {
  it("lets a second's worth in at once, then one by one, and refuses who would wait too long", async () => {
    const clock = new VirtualClock(10_000);
    let served = 0;
    const onSocket = () => {
      served += 1;
    };
    await using listener = await listen({ address: "127.0.0.1:0", onSocket, clock, maxHandshakesPerSecond: 2 });
    const clients = Array.from({ length: 9 }, () => dial(listener));
    await until(() => clients.filter((client) => client.closed).length === 2, "two are refused");
    expect(served).toBe(2);
    expect(listener.connections).toBe(7);
    clock.advance(500);
    expect(served).toBe(3);
    clock.advance(1_500);
    expect(served).toBe(6);
    for (const client of clients) client.destroy();
  });

  it("forgets who waits when it is disposed", async () => {
    const clock = new VirtualClock();
    const listener = await listen({ address: "127.0.0.1:0", onSocket: () => {}, clock, maxHandshakesPerSecond: 1 });
    const clients = [dial(listener), dial(listener)];
    await until(() => clock.pending === 1, "one waits");
    await listener[Symbol.asyncDispose]();
    expect(clock.pending).toBe(0);
    for (const client of clients) client.destroy();
  });
});
