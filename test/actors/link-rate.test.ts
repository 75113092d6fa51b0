import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FRAME, LEGAL_FLAGS, MAX_PAYLOAD } from "../../actors/frame.ts";
import { greeted, streamCount } from "../../actors/link.ts";
import { receiveNumber } from "../../actors/link-number.ts";
import { pack, settle } from "../../actors/link-pack.ts";
import { faultOf, heard, receiveFrame, receiveReset, violate } from "../../actors/link-receive.ts";
import { openStream, sendData } from "../../actors/link-send.ts";
import { FrameReader, FrameWriter } from "../../src/link/frames.ts";
import { bytes, End, Notes, Pair } from "../link/support.ts";

const NONE = new Uint8Array(0);
const MOST = 1_000;

/** An end that is up and has taken stream 1, before whoever is at the other end floods it. */
function flooded() {
  const pair = new Pair({}, { controlsPerSecond: MOST });
  openStream(pair.a.link, bytes("open"), new Notes(), 0);
  pair.run();
  pair.frames.length = 0;
  return { pair, link: pair.b.link, told: pair.b.told };
}

type Link = ReturnType<typeof flooded>["link"];
const FLOODS: readonly (readonly [name: string, frame: (link: Link) => void])[] = [
  ["PING", (link) => receiveNumber(link, FRAME.ping, 0, 7)],
  ["PONG", (link) => receiveNumber(link, FRAME.pong, 0, 7)],
  ["CREDIT of a stream", (link) => receiveNumber(link, FRAME.credit, 1, 1)],
  ["CREDIT of nothing", (link) => receiveNumber(link, FRAME.credit, 0, 0)],
  ["STOP", (link) => receiveFrame(link, FRAME.stop, 0, 1, NONE)],
  ["READY", (link) => receiveFrame(link, FRAME.ready, 0, 0, NONE)],
  ["DRAIN", (link) => receiveFrame(link, FRAME.drain, 0, 0, NONE)],
  ["CTL", (link) => receiveFrame(link, FRAME.ctl, 0, 0, bytes("x"))],
  ["empty DATA", (link) => receiveFrame(link, FRAME.data, 0, 1, NONE)],
];

describe("a flood of frames that no credit bounds", () => {
  it.each(FLOODS)("%s: is taken up to the limit, then closes the link and says why", (_, frame) => {
    const { link, told } = flooded();
    for (let i = 0; i < MOST - 10; i++) frame(link);
    expect(link.phase).toBe("up");
    for (let i = 0; i < 20; i++) frame(link);
    expect(link.phase).toBe("closed");
    expect(told.at(-1)).toBe("closed protocol");
  });

  it("of frames of streams that are over closes the link, too", () => {
    const { pair, link, told } = flooded();
    receiveReset(link, 1, { failure: { code: "cancelled", reason: "" }, unprocessed: false });
    for (let i = 0; i < MOST + 1; i++) receiveFrame(link, FRAME.data, 0, 1, bytes("late"));
    expect(told.at(-1)).toBe("closed protocol");
    expect(pair.b.farewell?.failure.reason).toMatch(/1000 frames in a second/);
  });

  it("is none when it is spread over time", () => {
    const { link } = flooded();
    for (let i = 0; i < 10 * MOST; i++) {
      heard(link, 13, 2_000 + i * 2);
      receiveNumber(link, FRAME.ping, 0, i);
    }
    expect(link.phase).toBe("up");
  });

  it("is none when it answers as much DATA of ours", () => {
    const { pair, link } = flooded();
    const theirs = pair.b.last.state;
    receiveNumber(link, FRAME.credit, 1, 2 ** 30);
    pair.b.last.notes.told.length = 0;
    theirs.sendPhase = 2;
    sendData(link, theirs, new Uint8Array(4 * 1024 * 1024));
    const nowhere = {
      frame: (_t: number, _f: number, _i: number, p: Uint8Array) => 9 + p.length,
      number: () => 13,
      reset: () => 10,
    };
    for (let sent = 0; sent < 4 * 1024 * 1024; ) {
      sent += pack(link, nowhere, 128 * 1024, pair.now);
      receiveNumber(link, FRAME.credit, 0, link.window.unacknowledged);
    }
    for (let i = 0; i < 8 * MOST; i++) receiveNumber(link, FRAME.credit, 1, 1);
    expect(link.phase).toBe("up");
  });

  it("drops CTL above 32 MiB a second, and takes none where its rules say so", () => {
    const pair = new Pair();
    for (let i = 0; i < 40; i++) receiveFrame(pair.b.link, FRAME.ctl, 0, 0, new Uint8Array(1024 * 1024));
    expect(pair.b.told).toHaveLength(32);
    expect(pair.b.link.dropped).toBe(8);
    const deaf = new Pair({}, { maxCtlBytes: 0 });
    expect(faultOf(deaf.b.link, FRAME.ctl, 0, 0, 1)).toMatch(/takes none/);
  });

  it("of CLOSE is a violation with the second", () => {
    const { link, told } = flooded();
    receiveNumber(link, FRAME.close, 0, 0);
    receiveNumber(link, FRAME.close, 0, 0);
    expect(told.at(-1)).toBe("closed protocol");
  });
});

/** Frames as somebody hostile would write them: legal headers most of the time, ids that mostly exist. */
const hostile = fc.record({
  type: fc.integer({ min: 0, max: 17 }),
  flags: fc.constantFrom(0, 0, 0, 1, 2),
  id: fc.constantFrom(0, 0, 1, 1, 3, 5, 7, 9, 2, 4, 2 ** 31 - 1),
  size: fc.constantFrom(0, 0, 1, 4, 4, 40, 600, 20_000, 32 * 1024, 70_000),
  times: fc.constantFrom(1, 1, 1, 2, 50, 1_500),
});

it("keeps its memory flat and ends in order, whatever frames come and however often", () => {
  fc.assert(
    fc.property(fc.array(hostile, { maxLength: 40 }), (frames) => {
      const end = new End({ firstStream: 2, controlsPerSecond: 2_000, opensPerSecond: 100, maxStreams: 20 }, 0);
      greeted(end.link, 64 * 1024);
      const reader = readerOf(end);
      for (const one of frames) for (let i = 0; i < one.times; i++) attack(end, reader, one);
      expect(streamCount(end.link)).toBeLessThanOrEqual(20);
      if (end.told.at(-1) !== "closed protocol") return;
      const { pool, queuedBytes } = end.link;
      expect([streamCount(end.link), pool.held, pool.lent, queuedBytes]).toEqual([0, 0, 0, 0]);
    }),
    { numRuns: 60 },
  );
});

type Hostile = typeof hostile extends fc.Arbitrary<infer H> ? H : never;
const writer = new FrameWriter();

/** An OPEN that would be refused for its id alone proves little: it gets the next one. */
function attack(end: End, reader: FrameReader, { type, flags, id, size }: Hostile): void {
  const { link } = end;
  const next = link.theirLast + 1 + (link.theirLast % 2);
  const length = [10, 11, 12, 14].includes(type) ? 4 : Math.max(0, Math.min(size, MAX_PAYLOAD[type] ?? 0));
  writer.frame(type, flags & (LEGAL_FLAGS[type] ?? 0), type === FRAME.open ? next : id, new Uint8Array(length));
  const { parts, bytes: took } = writer.take();
  heard(link, took, 0);
  for (const part of parts) reader.feed(part);
  settle(link);
  const records = 1_000 * (link.streams.size + link.control.length) + 100 * link.resets.length;
  if (link.pool.held + link.queuedBytes + records > 4 * 1024 * 1024) throw new Error("it kept more than 4 MiB");
}

function readerOf(end: End): FrameReader {
  const reader: FrameReader = new FrameReader({
    fault: (type, flags, id, length) => faultOf(end.link, type, flags, id, length),
    frame: (type, flags, id, payload) => receiveFrame(end.link, type, flags, id, payload),
    number: (type, id, value) => receiveNumber(end.link, type, id, value),
    reset: (id, reset) => receiveReset(end.link, id, reset),
    broken: (what) => violate(end.link, what),
  });
  return reader;
}
