import { describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import { FRAME } from "../../actors/frame.ts";
import { streamCount } from "../../actors/link.ts";
import { hasWork } from "../../actors/link-pack.ts";
import { receiveFrame } from "../../actors/link-receive.ts";
import {
  acceptStream,
  consumed,
  openStream,
  resetStream,
  sendData,
  sendEnd,
  sendHead,
  sendTrailer,
  stopStream,
} from "../../actors/link-send.ts";
import { bytes, Notes, Pair } from "../link/support.ts";

const open = (pair: Pair, from = pair.a, group = "g") => {
  const notes = new Notes();
  return { notes, state: openStream(from.link, bytes("open"), notes, group) };
};
const NONE = new Uint8Array(0);
const kib = (n: number) => new Uint8Array(n * 1024);

describe("a stream", () => {
  it("carries request and answer in order and closes once at both ends", () => {
    const pair = new Pair();
    const mine = open(pair);
    sendData(pair.a.link, mine.state, bytes("question"));
    sendEnd(pair.a.link, mine.state);
    pair.run();
    const theirs = pair.b.last;
    expect(theirs.notes.told).toEqual(["data", "end"]);

    acceptStream(pair.b.link, theirs.state);
    pair.run();
    expect(mine.notes.told).toEqual(["accepted"]);
    sendHead(pair.b.link, theirs.state, bytes("200"));
    sendData(pair.b.link, theirs.state, bytes("answer"));
    sendTrailer(pair.b.link, theirs.state, bytes("ok"));
    sendEnd(pair.b.link, theirs.state);
    pair.run();

    expect(mine.notes.told).toEqual(["accepted", "head 200", "data", "trailer ok", "end", "closed"]);
    expect(theirs.notes.told).toEqual(["data", "end", "closed"]);
    expect(mine.notes.sentBytes).toBe(8);
    expect(streamCount(pair.a.link) + streamCount(pair.b.link)).toBe(0);
    expect(pair.a.link.queuedBytes + pair.b.link.queuedBytes).toBe(0);
  });

  it("says END as a flag of its last frame, so that a request without a body is one frame", () => {
    const pair = new Pair().run();
    pair.frames.length = 0;
    const mine = open(pair);
    sendEnd(pair.a.link, mine.state);
    pair.carry(pair.a);
    expect(pair.frames).toEqual([[FRAME.open, 1, 4]]);
    expect(pair.b.last.notes.told).toEqual(["end"]);
  });

  it.each([
    ["HEAD", (p: Pair) => sendHead(p.b.link, p.b.last.state, bytes("h"))],
    ["ACCEPT", (p: Pair) => acceptStream(p.b.link, p.b.last.state)],
    ["STOP", (p: Pair) => stopStream(p.b.link, p.b.last.state)],
    ["CREDIT", (p: Pair) => consumed(p.b.link, p.b.last.state, 64 * 1024)],
  ])("counts as accepted by %s", (_, say) => {
    const pair = new Pair();
    const mine = open(pair);
    sendData(pair.a.link, mine.state, kib(64));
    pair.run();
    expect(mine.notes.told).toEqual([]);
    say(pair);
    pair.run();
    expect(mine.notes.told[0]).toBe("accepted");
  });

  it("says ACCEPT only where HEAD does not say it in the same turn", () => {
    const pair = new Pair();
    open(pair);
    pair.run();
    pair.frames.length = 0;
    acceptStream(pair.b.link, pair.b.last.state);
    sendHead(pair.b.link, pair.b.last.state, bytes("200"));
    acceptStream(pair.b.link, pair.b.last.state);
    pair.run();
    expect(pair.frames).toEqual([[FRAME.head, 1, 3]]);
  });

  it("drops the rest of the body without a word once the executor answered with END and STOP", () => {
    const pair = new Pair();
    const mine = open(pair);
    sendData(pair.a.link, mine.state, kib(500));
    pair.run();
    const theirs = pair.b.last;
    sendHead(pair.b.link, theirs.state, bytes("413"));
    sendEnd(pair.b.link, theirs.state);
    stopStream(pair.b.link, theirs.state);
    pair.run();
    expect(mine.notes.told).toEqual(["accepted", "stopped", "head 413", "end", "closed"]);
    expect(theirs.notes.bytes).toBe(64 * 1024);
    expect(theirs.notes.told.at(-1)).toBe("closed");
    expect(pair.a.link.queuedBytes).toBe(0);
    sendData(pair.a.link, mine.state, kib(1));
    expect(pair.a.link.queuedBytes).toBe(0);
  });

  it("drops what still comes after STOP and never tells its user", () => {
    const pair = new Pair();
    const mine = open(pair);
    pair.run();
    const theirs = pair.b.last;
    stopStream(pair.b.link, theirs.state);
    sendData(pair.a.link, mine.state, kib(60));
    pair.carry(pair.a);
    expect(theirs.notes.bytes).toBe(0);
    pair.run();
    expect(theirs.notes.told).toEqual(["end"]);
  });

  it("keeps a STOP from before its OPEN left until after it", () => {
    const pair = new Pair();
    const mine = open(pair);
    stopStream(pair.a.link, mine.state);
    pair.run();
    expect(pair.b.last.notes.told).toEqual(["stopped"]);
    expect(mine.notes.told).toEqual(["accepted", "end"]);
  });

  it("resets both ends at once and discards what waits", () => {
    const pair = new Pair();
    const mine = open(pair);
    sendData(pair.a.link, mine.state, kib(200));
    pair.run();
    resetStream(pair.a.link, mine.state, { failure: failure("cancelled", "the caller left"), unprocessed: false });
    expect(mine.notes.told).toEqual(["closed"]);
    expect(pair.a.link.queuedBytes).toBe(0);
    pair.run();
    expect(pair.b.last.notes.told).toEqual(["data", "reset cancelled", "closed"]);
    sendHead(pair.b.link, pair.b.last.state, bytes("late"));
    expect(hasWork(pair.b.link)).toBe(false);
  });

  it("sends nothing at all when it is reset before its OPEN left", () => {
    const pair = new Pair().run();
    const mine = open(pair);
    resetStream(pair.a.link, mine.state, { failure: failure("cancelled", ""), unprocessed: false });
    expect(pair.carry(pair.a)).toBe(0);
    expect(mine.notes.told).toEqual(["closed"]);
  });

  it("is refused with proof when nobody serves it", () => {
    const pair = new Pair();
    pair.b.refuse = failure("agent-offline", "not here");
    const mine = open(pair);
    pair.run();
    expect(mine.notes.told).toEqual(["reset agent-offline unprocessed", "closed"]);
    expect(streamCount(pair.b.link)).toBe(0);
  });

  it("does not believe a proof that comes after acceptance", () => {
    const pair = new Pair();
    const mine = open(pair);
    pair.run();
    acceptStream(pair.b.link, pair.b.last.state);
    resetStream(pair.b.link, pair.b.last.state, { failure: failure("busy", "no"), unprocessed: true });
    receiveFrame(pair.a.link, FRAME.accept, 0, mine.state.id, NONE);
    pair.run();
    expect(mine.notes.told).toEqual(["accepted", "reset busy", "closed"]);
  });

  it("is reset as a bug when its user sends in an illegal order", () => {
    const pair = new Pair();
    open(pair);
    pair.run();
    sendData(pair.b.link, pair.b.last.state, bytes("no head yet"));
    expect(pair.b.last.notes.told).toEqual(["reset internal", "closed"]);
  });
});

describe("small pieces that wait", () => {
  it("are gathered, so that they leave in few frames and keep nothing else in memory", () => {
    const pair = new Pair({}, { streamWindow: 16 * 1024 });
    const mine = open(pair);
    sendData(pair.a.link, mine.state, kib(20));
    pair.run();
    const chunk = new Uint8Array(64 * 1024).fill(7);
    for (let i = 0; i < 10_000; i++) sendData(pair.a.link, mine.state, chunk.subarray(i, i + 3));
    expect(mine.state.chunks.length - mine.state.chunk).toBeLessThanOrEqual(3);
    for (const kept of mine.state.chunks.slice(1)) expect(kept.buffer.byteLength).toBeLessThanOrEqual(16 * 1024);
    sendEnd(pair.a.link, mine.state);
    const { notes, state } = pair.b.last;
    pair.frames.length = 0;
    while (state.window.held > 0) {
      consumed(pair.b.link, state, state.window.held);
      pair.run();
    }
    expect(notes.bytes).toBe(20 * 1024 + 30_000);
    expect(notes.text.slice(20 * 1024)).toBe("\x07".repeat(30_000));
    expect(pair.frames.filter(([type]) => type === FRAME.data).length).toBeLessThan(10);
  });

  it("are copied where their reader leaves things lying, so that they do not keep the chunk they came in", () => {
    const pair = new Pair();
    open(pair);
    pair.run();
    const { notes } = pair.b.last;
    const kept: Uint8Array[] = [];
    notes.data = (bytes) => void kept.push(bytes);
    const chunk = new Uint8Array(64 * 1024);
    for (let i = 0; i < 20; i++) receiveFrame(pair.b.link, FRAME.data, 0, 1, chunk.subarray(0, 1024));
    expect(kept.filter(({ buffer }) => buffer === chunk.buffer)).toHaveLength(16);
    expect(kept.at(-1)?.length).toBe(1024);
  });
});
