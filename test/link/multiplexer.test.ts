import { afterEach, describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import { failed } from "../../src/failed.ts";
import type { Stream } from "../../src/link/stream.ts";
import { clock, echo, leaveNothing, pair, type Serve, up } from "./pair.ts";
import { bytes, helloOf, Notes, until } from "./support.ts";

afterEach(leaveNothing);

describe("streams over carriers", () => {
  it.each([
    ["as written", {}],
    ["cut into single bytes", { chunks: () => 1 }],
    ["one small batch at a time", { maxBatchBytes: 200, maxBatches: 1 }],
  ])("answers many at once, %s", async (_, carrier) => {
    const [a] = pair({ serve: echo, carrier });
    const all = Array.from({ length: 50 }, (_, i) => {
      const notes = new Notes();
      const stream = a.link.open(bytes("open"), notes, i % 3);
      const text = `request ${i} `.repeat(i * 3);
      if (text) stream.data(bytes(text));
      stream.end();
      return { notes, text };
    });
    await until(() => all.every(({ notes }) => notes.told.at(-1) === "closed"));
    for (const { notes, text } of all) expect(notes.text).toBe(text);
  });

  it("gives bytes on as views of the chunk they came in", async () => {
    const got: Uint8Array[] = [];
    const serve: Serve = () => Object.assign(new Notes(), { data: (chunk: Uint8Array) => got.push(chunk) });
    const [a] = pair({ serve });
    const body = new Uint8Array(20_000).fill(7);
    a.link.open(bytes("open"), new Notes(), 0).data(body);
    await until(() => got.length > 0);
    expect(got[0]?.buffer).toBe(body.buffer);
  });

  it("writes what one turn asked for as one batch", async () => {
    const [a] = pair();
    await up(a);
    await until(() => a.link.roundTrip >= 0 && a.link.bufferedBytes === 0);
    let writes = 0;
    const write = a.carrier.write.bind(a.carrier);
    a.carrier.write = (...args) => {
      writes++;
      write(...args);
    };
    for (let i = 0; i < 10; i++) a.link.open(bytes("open"), new Notes(), 0).data(bytes("body"));
    await until(() => writes > 0);
    expect(writes).toBe(1);
  });

  it("resets a stream whose handler throws and lets the others live", async () => {
    const serve: Serve = (payload, stream) => {
      const notes = new Notes();
      if (String(payload) === "bad") notes.end = () => JSON.parse("{");
      else notes.end = () => stream.head(bytes("200"));
      return notes;
    };
    const [a, b] = pair({ serve });
    const [bad, good] = [new Notes(), new Notes()];
    a.link.open(bytes("bad"), bad, 0).end();
    a.link.open(bytes("good"), good, 0).end();
    await until(() => bad.told.length > 0 && good.told.length > 0);
    expect(bad.told).toEqual(["reset internal", "closed"]);
    expect(good.told).toEqual(["accepted", "head 200"]);
    expect(b.notes.faults).toHaveLength(1);
  });

  it("refuses with proof when the user throws a failure", async () => {
    const [a] = pair({
      serve: () => {
        throw failed("busy", "too many");
      },
    });
    const notes = new Notes();
    a.link.open(bytes("open"), notes, 0);
    await until(() => notes.told.length > 0);
    expect(notes.ending).toEqual({ failure: failure("busy", "too many"), unprocessed: true });
  });

  it("knows exactly which OPENs the carrier got when it is cut", async () => {
    const [a] = pair({ carrier: { maxBatchBytes: 100, maxBatches: 1 } });
    await up(a);
    let turns = 0;
    await until(() => turns++ > 5); // the first PING has left
    a.carrier.stall();
    const all = Array.from({ length: 20 }, () => {
      const notes = new Notes();
      a.link.open(new Uint8Array(41), notes, 0);
      return notes;
    });
    const before = a.link.bufferedBytes;
    await until(() => a.link.bufferedBytes < before);
    const unsent = a.link.bufferedBytes / 41;
    expect(unsent).toBeGreaterThan(0);
    a.carrier.cutAfter(0);
    const proofs = all.filter(({ ending }) => ending?.unprocessed).length;
    expect(proofs).toBe(unsent);
    expect(all.every(({ told }) => told.length === 2)).toBe(true);
  });

  it.each([0, 1, 9, 30, 200, 5_000])("ends every stream once when the carrier is cut after %i bytes", async (cut) => {
    const [a, b] = pair({ serve: echo });
    const all = Array.from({ length: 10 }, () => {
      const notes = new Notes();
      const stream = a.link.open(bytes("open"), notes, 0);
      stream.data(new Uint8Array(1_000));
      stream.end();
      return notes;
    });
    a.carrier.cutAfter(cut);
    await until(() => a.carrier.closed);
    expect(all.map(({ told }) => told.at(-1))).toEqual(all.map(() => "closed"));
    expect(a.notes.told.filter((what) => what.startsWith("closed"))).toHaveLength(1);
    expect(b.notes.told.filter((what) => what.startsWith("closed"))).toHaveLength(1);
  });
});

describe("a link's end", () => {
  it("closes in good order: what runs ends, then the carrier ends", async () => {
    const held: Stream[] = [];
    const [a, b] = pair({
      serve: (_, stream) => {
        held.push(stream);
        return new Notes();
      },
    });
    const notes = new Notes();
    a.link.open(bytes("open"), notes, 0).end();
    await until(() => held.length === 1);
    b.link.close();
    await until(() => a.notes.told.includes("drain"));
    expect([a.link.state, b.link.state]).toEqual(["closing", "closing"]);
    held[0]?.head(bytes("200"));
    held[0]?.end();
    await until(() => a.notes.failure !== null);
    expect(notes.told).toEqual(["accepted", "head 200", "end", "closed"]);
    expect([a.notes.failure?.code, b.notes.failure?.code]).toEqual(["draining", "draining"]);
  });

  it("tells the other side why it was destroyed", async () => {
    const [a, b] = pair();
    await up(a);
    await up(b);
    a.link.destroy(failure("not-owner", "superseded by a newer link"));
    await until(() => b.notes.failure !== null);
    expect(b.notes.failure).toEqual(failure("not-owner", "superseded by a newer link"));
    const late = new Notes();
    a.link.open(bytes("open"), late, 0);
    await until(() => late.told.length > 0);
    expect(late.told).toEqual(["reset node-gone unprocessed", "closed"]);
  });

  it("is lost when the other side falls silent with a stream open", async () => {
    const [a, b] = pair({ a: { hello: helloOf("agentk", "agent") } });
    const notes = new Notes();
    a.link.open(bytes("open"), notes, 0);
    await until(() => b.link.streams === 1);
    b.carrier.stall();
    clock.advance(1_000);
    await until(() => a.link.bufferedBytes === 0);
    clock.advance(2_900);
    expect(a.link.state).toBe("up");
    clock.advance(100);
    expect(a.notes.failure?.code).toBe("node-gone");
    expect(notes.told).toEqual(["reset node-gone", "closed"]);
    clock.advance(1_000); // the farewell is not taken: the carrier is ended by force
    expect(a.carrier.closed).toBe(true);
  });

  it("watches a peer link even when nothing is open on it", async () => {
    const [a, b] = pair();
    await up(a);
    await up(b);
    b.carrier.stall();
    clock.advance(1_000);
    await until(() => b.link.heard === clock.now());
    clock.advance(3_000);
    expect(a.notes.failure?.code).toBe("node-gone");
    clock.advance(1_000);
  });

  it("closes with `protocol` on bytes that are no frames, and the other side hears it", async () => {
    const [a, b] = pair();
    await up(a);
    await up(b);
    a.carrier.write([bytes("GET / HTTP/1.1\r\n\r\n")], 18, () => {});
    await until(() => a.notes.failure !== null);
    expect([a.notes.failure?.code, b.notes.failure?.code]).toEqual(["protocol", "protocol"]);
  });

  it("carries READY, DRAIN and CTL", async () => {
    const [a, b] = pair();
    b.link.ready();
    b.link.drain();
    b.link.ctl(new Uint8Array(300_000).fill(65));
    await until(() => a.notes.told.length === 4);
    expect(a.notes.told.slice(0, 3)).toEqual(["up kas-b", "ready", "drain"]);
    expect(a.notes.told[3]).toHaveLength(300_004);
  });
});
