import { describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import { FRAME } from "../../actors/frame.ts";
import { receiveNumber } from "../../actors/link-number.ts";
import { hasWork, pack } from "../../actors/link-pack.ts";
import { receiveFrame } from "../../actors/link-receive.ts";
import { consumed, openStream, resetStream, sendCtl, sendData } from "../../actors/link-send.ts";
import { bytes, Notes, Pair } from "../link/support.ts";

const open = (pair: Pair, from = pair.a, group = "g") => {
  const notes = new Notes();
  return { notes, state: openStream(from.link, bytes("open"), notes, group) };
};
const kib = (n: number) => new Uint8Array(n * 1024);

describe("credit", () => {
  it("lets a new stream send 64 KiB and no more until the consumer took a quarter", () => {
    const pair = new Pair();
    const mine = open(pair);
    sendData(pair.a.link, mine.state, kib(200));
    pair.run();
    const theirs = pair.b.last;
    expect(theirs.notes.bytes).toBe(64 * 1024);
    consumed(pair.b.link, theirs.state, 16 * 1024 - 1);
    pair.run();
    expect(theirs.notes.bytes).toBe(64 * 1024);
    consumed(pair.b.link, theirs.state, 1);
    pair.run();
    expect(theirs.notes.bytes).toBe(80 * 1024);
    expect(mine.state.queued).toBe(120 * 1024);
  });

  it("starts each direction with the window that its receiver's HELLO named", () => {
    const pair = new Pair({}, { streamWindow: 5_000 });
    const mine = open(pair);
    sendData(pair.a.link, mine.state, kib(64));
    pair.run();
    expect(pair.b.last.notes.bytes).toBe(5_000);
  });

  it("closes the link on DATA beyond its credit", () => {
    const pair = new Pair({}, { streamWindow: 10 });
    open(pair);
    pair.run();
    receiveFrame(pair.b.link, FRAME.data, 0, 1, new Uint8Array(11));
    expect(pair.b.told).toEqual(["closed protocol"]);
  });

  it("grows the window of a stream whose reader keeps up, and gives the loan back when it is over", () => {
    const pair = new Pair();
    const mine = open(pair);
    sendData(pair.a.link, mine.state, kib(4096));
    let held = 0;
    for (let turn = 0; turn < 200 && mine.state.queued > 0; turn++) {
      pair.run();
      held = Math.max(held, pair.b.last.state.window.held);
      consumed(pair.b.link, pair.b.last.state, pair.b.last.state.window.held);
    }
    expect(mine.state.queued).toBe(0);
    expect(pair.b.last.state.window.size).toBeGreaterThan(512 * 1024);
    expect(pair.b.link.pool.lent).toBeGreaterThan(0);
    resetStream(pair.a.link, mine.state, { failure: failure("cancelled", ""), unprocessed: false });
    pair.run();
    expect(pair.b.link.pool.lent).toBe(0);
  });

  it("keeps at most the link's window on its way until it is acknowledged", () => {
    const pair = new Pair({ maxStreams: 100 });
    for (let i = 0; i < 20; i++) sendData(pair.a.link, open(pair).state, kib(64));
    let sent = 0;
    const sink = {
      frame: (_t: number, _f: number, _i: number, p: Uint8Array) => 9 + p.length,
      number: () => 13,
      reset: () => 10,
    };
    for (let bytes = -1; bytes !== 0; sent += bytes) bytes = pack(pair.a.link, sink, 128 * 1024, pair.now);
    expect(sent).toBeGreaterThanOrEqual(512 * 1024);
    expect(sent).toBeLessThan(545 * 1024);
    receiveNumber(pair.a.link, FRAME.credit, 0, 100 * 1024);
    expect(hasWork(pair.a.link)).toBe(true);
    receiveNumber(pair.a.link, FRAME.credit, 0, 2 ** 31);
    expect(pair.a.told).toEqual(["closed protocol"]);
  });
});

describe("fairness", () => {
  it("serves a new stream's first bytes before an old stream's rest", () => {
    const pair = new Pair({}, { streamWindow: 1 << 20 });
    const old = open(pair);
    sendData(pair.a.link, old.state, kib(500));
    while (old.state.total < 128 * 1024) pair.carry(pair.a, 40_000);
    const fresh = open(pair);
    sendData(pair.a.link, fresh.state, kib(8));
    pair.frames.length = 0;
    pair.carry(pair.a, 40_000);
    expect(pair.frames.slice(0, 2).map(([type, id]) => [type, id])).toEqual([
      [FRAME.open, 3],
      [FRAME.data, 3],
    ]);
  });

  it("gives a group with one stream as much as a group with nine", () => {
    const pair = new Pair({}, { streamWindow: 1 << 20 });
    const lonely = open(pair, pair.a, "one");
    const crowd = Array.from({ length: 9 }, () => open(pair, pair.a, "many"));
    for (const { state } of [lonely, ...crowd]) sendData(pair.a.link, state, kib(600));
    const carry = () => {
      pair.carry(pair.a, 64 * 1024);
      pair.carry(pair.b);
    };
    while (pair.a.link.fresh.first) carry();
    const totals = () => [lonely.state.total, crowd.reduce((sum, { state }) => sum + state.total, 0)] as const;
    const [lonelyBefore, crowdBefore] = totals();
    for (let batch = 0; batch < 10; batch++) carry();
    const [lonelyAfter, crowdAfter] = totals();
    const share = (lonelyAfter - lonelyBefore) / (crowdAfter - crowdBefore);
    expect(share).toBeGreaterThan(0.8);
    expect(share).toBeLessThan(1.25);
  });

  it("sends control ahead of data that waits", () => {
    const pair = new Pair().run();
    const mine = open(pair);
    sendData(pair.a.link, mine.state, kib(64));
    pair.a.link.pongDue = 7;
    sendCtl(pair.a.link, bytes("hello"));
    pair.frames.length = 0;
    pair.carry(pair.a);
    expect(pair.frames.map(([type]) => type).slice(0, 3)).toEqual([FRAME.pong, FRAME.ctl, FRAME.open]);
  });
});
