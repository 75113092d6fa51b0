/** Random users, random carriers, chunks cut at any byte: what must hold of every link. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import { greeted, streamCount } from "../../actors/link.ts";
import { receiveNumber } from "../../actors/link-number.ts";
import { pack, settle } from "../../actors/link-pack.ts";
import { faultOf, heard, receiveFrame, receiveReset, violate } from "../../actors/link-receive.ts";
import { consumed, openStream, resetStream, sendData, sendEnd, sendHead, stopStream } from "../../actors/link-send.ts";
import type { StreamState } from "../../actors/stream.ts";
import { FrameReader, FrameWriter } from "../../src/link/frames.ts";
import { bytes, End, Notes } from "../link/support.ts";

const readerOf = (to: End) => {
  const reader: FrameReader = new FrameReader({
    fault: (type, flags, id, length) => faultOf(to.link, type, flags, id, length),
    frame: (type, flags, id, payload) => receiveFrame(to.link, type, flags, id, payload),
    number: (type, id, value) => receiveNumber(to.link, type, id, value),
    reset: (id, reset) => receiveReset(to.link, id, reset),
    broken: (what) => violate(to.link, what),
  });
  return reader;
};

const WINDOW = 1_000;

/** Both ends through the real codec; bytes on their way sit in `wire` until some of them are let through. */
class Wired {
  now = 1_000;
  readonly ends: readonly [End, End];
  readonly readers: readonly [FrameReader, FrameReader];
  readonly wires: [Buffer, Buffer] = [Buffer.alloc(0), Buffer.alloc(0)];
  readonly writers = [new FrameWriter(), new FrameWriter()] as const;

  constructor(firstStream = 1) {
    this.ends = [
      new End({ firstStream, streamWindow: WINDOW }, 0),
      new End({ firstStream: 2, streamWindow: WINDOW }, 0),
    ];
    this.readers = [readerOf(this.ends[0]), readerOf(this.ends[1])];
    for (const end of this.ends) greeted(end.link, WINDOW);
  }

  pack(from: 0 | 1, most: number): number {
    const took = pack(this.ends[from].link, this.writers[from], most, this.now);
    const { parts, bytes: size } = this.writers[from].take();
    expect(size).toBe(took);
    this.wires[from] = Buffer.concat([this.wires[from], ...parts]);
    settle(this.ends[from].link);
    return took;
  }

  deliver(from: 0 | 1, most: number): number {
    const to = from === 0 ? 1 : 0;
    const chunk = Buffer.from(this.wires[from].subarray(0, most));
    this.wires[from] = this.wires[from].subarray(most);
    if (chunk.length === 0) return 0;
    heard(this.ends[to].link, chunk.length, this.now);
    this.readers[to].feed(chunk);
    return chunk.length;
  }

  drain(): void {
    for (;;) {
      this.now += 10;
      const moved = this.pack(0, 4_096) + this.pack(1, 4_096) + this.deliver(0, 1e9) + this.deliver(1, 1e9);
      if (moved === 0) return;
    }
  }
}

type Live = { readonly end: End; readonly state: StreamState; readonly notes: Notes; sent: string };

const step = fc.oneof(
  fc.record({ do: fc.constant("open" as const), side: fc.constantFrom(0 as const, 1 as const), group: fc.nat(3) }),
  fc.record({ do: fc.constant("data" as const), which: fc.nat(30), size: fc.integer({ min: 1, max: 3_000 }) }),
  fc.record({
    do: fc.constantFrom("end" as const, "take" as const, "take" as const, "answer" as const),
    which: fc.nat(30),
  }),
  fc.record({ do: fc.constantFrom("reset" as const, "stop" as const), which: fc.nat(200) }),
  fc.record({
    do: fc.constant("pack" as const),
    side: fc.constantFrom(0 as const, 1 as const),
    most: fc.integer({ min: 1, max: 5_000 }),
  }),
  fc.record({
    do: fc.constant("deliver" as const),
    side: fc.constantFrom(0 as const, 1 as const),
    most: fc.integer({ min: 1, max: 3_000 }),
  }),
);

const LETTERS = "abcdefghijklmnopqrstuvw"; // a prime number of them, so that a byte lost or doubled shows

/** One user at each end of every stream; both ends' streams in the order they came to be. */
class Play {
  readonly wired = new Wired();
  readonly live: Live[] = [];
  #served = [0, 0];

  #meet(): void {
    for (const [i, end] of this.wired.ends.entries()) {
      for (const { state, notes } of end.streams.slice(this.#served[i])) {
        this.live.push({ end, state, notes, sent: "" });
      }
      this.#served[i] = end.streams.length;
    }
  }

  #send(one: Live, size: number): void {
    if (!one.state.own && one.state.sendPhase < 2) sendHead(one.end.link, one.state, bytes("h"));
    if (one.state.sendPhase !== 2) return;
    const start = one.sent.length % LETTERS.length;
    const text = LETTERS.repeat(1 + (start + size) / LETTERS.length).slice(start, start + size);
    one.sent += text;
    sendData(one.end.link, one.state, bytes(text));
  }

  take(s: typeof step extends fc.Arbitrary<infer S> ? S : never): void {
    if (s.do === "open") {
      const end = this.wired.ends[s.side];
      const notes = new Notes();
      const state = openStream(end.link, bytes(`open ${this.live.length}`), notes, s.group);
      this.live.push({ end, state, notes, sent: "" });
    } else if (s.do === "pack") this.wired.pack(s.side, s.most);
    else if (s.do === "deliver") this.wired.deliver(s.side, s.most);
    else this.#act(s.do, s.which, "size" in s ? s.size : 50);
    this.#meet();
  }

  #act(what: "data" | "answer" | "take" | "end" | "stop" | "reset", which: number, size: number): void {
    const one = this.live[which];
    if (!one) return;
    const { link } = one.end;
    switch (what) {
      case "data":
      case "answer":
        return this.#send(one, size);
      case "take":
        return consumed(link, one.state, one.state.window.held);
      case "end":
        return this.end(one);
      case "stop":
        return stopStream(link, one.state);
      case "reset":
        return resetStream(link, one.state, { failure: failure("cancelled", "left"), unprocessed: false });
    }
  }

  end(one: Live): void {
    if (!one.state.own && one.state.sendPhase < 2) sendHead(one.end.link, one.state, bytes("h"));
    sendEnd(one.end.link, one.state);
  }

  /** Everybody reads all there is and ends. */
  finish(): void {
    for (let round = 0; round < 1_000; round++) {
      this.wired.drain();
      this.#meet();
      const open = this.live.filter(({ state }) => !state.over);
      if (open.length === 0) return;
      for (const one of open) {
        this.end(one);
        consumed(one.end.link, one.state, one.state.window.held);
      }
    }
  }

  check(): void {
    for (const { end } of this.live) expect(end.told).toEqual([]);
    for (const { state, notes } of this.live) {
      expect(state.window.allowed).toBeGreaterThanOrEqual(0);
      const { held, allowed, due, size } = state.window;
      if (!state.over && !state.stopped) expect(held + allowed + due).toBe(size);
      expect(state.credit).toBeGreaterThanOrEqual(0);
      expect(notes.told.filter((what) => what === "closed").length).toBeLessThanOrEqual(1);
      expect(notes.told.indexOf("closed")).toBe(notes.told.includes("closed") ? notes.told.length - 1 : -1);
    }
    for (const { link } of this.wired.ends) {
      const waiting = [...link.streams.values(), ...link.unopened].reduce(
        (sum, s) => sum + (s.head?.length ?? 0) + s.chunks.reduce((n, c) => n + c.length, 0) - s.offset,
        0,
      );
      expect(link.queuedBytes).toBe(waiting);
    }
  }
}

it("keeps every stream's bytes and order, never exceeds credit, and closes each exactly once", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 250 }), (script) => {
      const play = new Play();
      for (const s of script) {
        play.take(s);
        play.check();
      }
      play.finish();
      play.check();
      for (const [i, { link }] of play.wired.ends.entries()) {
        expect(streamCount(link)).toBe(0);
        expect(link.queuedBytes).toBe(0);
        expect(link.pool.lent).toBe(0);
        expect([link.fresh.first, link.seasoned.first]).toEqual([null, null]);
        expect(play.wired.readers[i]?.partial).toBe(0);
      }
      for (const one of play.live) {
        expect(one.notes.told.at(-1)).toBe("closed");
        const other = play.live.find((o) => o.state.id === one.state.id && o.end !== one.end && one.state.id > 0);
        const got = other?.notes.text ?? "";
        expect(one.sent.startsWith(got)).toBe(true);
        const whole = other?.notes.told.includes("end") && !other.state.stopped && !one.state.refused;
        if (whole) expect(got).toBe(one.sent);
      }
    }),
    { numRuns: 150 },
  );
});

it("closes with `protocol` or waits for more, whatever bytes come, and never throws", () => {
  const frame = fc
    .record({
      type: fc.integer({ min: 0, max: 18 }),
      flags: fc.integer({ min: 0, max: 2 }),
      id: fc.nat(6),
      payload: fc.uint8Array({ maxLength: 40 }),
    })
    .map(({ type, flags, id, payload }) => Buffer.from([type, flags, 0, 0, payload.length, 0, 0, 0, id, ...payload]));
  const noise = fc.oneof(frame, fc.uint8Array({ maxLength: 60 }));
  fc.assert(
    fc.property(fc.array(noise, { maxLength: 40 }), fc.integer({ min: 1, max: 50 }), (chunks, cut) => {
      const wired = new Wired();
      const end = wired.ends[1];
      const all = Buffer.concat(chunks);
      for (let at = 0; at < all.length; at += cut) {
        wired.deliver(0, 0);
        wired.readers[1].feed(all.subarray(at, at + cut));
        wired.pack(1, 4_096);
      }
      const closings = end.told.filter((what) => what.startsWith("closed"));
      expect(closings.length).toBeLessThanOrEqual(1);
      expect(streamCount(end.link) === 0 || end.link.phase !== "closed").toBe(true);
    }),
    { numRuns: 500 },
  );
});
