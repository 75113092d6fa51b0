import { describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import { FLAG_END, FRAME } from "../../actors/frame.ts";
import { close, end, isDone, LINK_RULES, streamCount } from "../../actors/link.ts";
import { nextTick, tick } from "../../actors/link-liveness.ts";
import { hasWork, pack } from "../../actors/link-pack.ts";
import { heard, receiveFrame, receiveNumber, receiveReset } from "../../actors/link-receive.ts";
import {
  acceptStream,
  consumed,
  openStream,
  resetStream,
  sendCtl,
  sendData,
  sendEnd,
  sendHead,
  sendTrailer,
  stopStream,
} from "../../actors/link-send.ts";
import { bytes, End, Notes, Pair } from "../link/support.ts";

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

describe("a link", () => {
  it("resets streams whose OPEN never left with proof, and the others without, when it is lost", () => {
    const pair = new Pair();
    const left = open(pair);
    pair.run();
    const waiting = open(pair);
    end(pair.a.link, { why: failure("node-gone", "connection reset"), tell: false });
    expect(left.notes.told).toEqual(["reset node-gone", "closed"]);
    expect(waiting.notes.told).toEqual(["reset node-gone unprocessed", "closed"]);
    expect(pair.a.told).toEqual(["closed node-gone"]);
    end(pair.a.link, { why: failure("node-gone", "again"), tell: false });
    expect(pair.a.told).toHaveLength(1);
  });

  it("refuses OPENs above the last id of its CLOSE and serves the lower ones to their end", () => {
    const pair = new Pair();
    const served = open(pair);
    pair.run();
    close(pair.b.link);
    const late = open(pair);
    pair.carry(pair.a); // the OPEN of `late` crosses the CLOSE
    expect(pair.b.streams).toHaveLength(1);
    pair.run();
    expect(late.notes.told).toEqual(["reset draining unprocessed", "closed"]);
    expect(pair.a.told).toEqual(["drain"]);
    expect(isDone(pair.b.link)).toBe(false);
    const refused = open(pair);
    pair.run();
    expect(refused.notes.told).toEqual(["reset draining unprocessed", "closed"]);

    sendEnd(pair.a.link, served.state);
    sendHead(pair.b.link, pair.b.last.state, bytes("200"));
    sendEnd(pair.b.link, pair.b.last.state);
    pair.run();
    expect(served.notes.told).toEqual(["accepted", "head 200", "end", "closed"]);
    expect(isDone(pair.b.link)).toBe(true);
    expect(isDone(pair.a.link)).toBe(false);
  });

  it("refuses streams above its limit with proof, at either end", () => {
    const pair = new Pair({ maxStreams: 3 }, { maxStreams: 2 });
    const all = [open(pair), open(pair), open(pair), open(pair)];
    pair.run();
    expect(all.map(({ notes }) => notes.told[0])).toEqual([
      undefined,
      undefined,
      "reset busy unprocessed",
      "reset busy unprocessed",
    ]);
  });

  it("refuses OPENs above its rate with proof and recovers after a second", () => {
    const pair = new Pair({}, { opensPerSecond: 2 });
    const all = [open(pair), open(pair), open(pair)];
    pair.run();
    expect(all.map(({ notes }) => notes.told.length)).toEqual([0, 0, 2]);
    pair.now += 1_000;
    const later = open(pair);
    pair.run();
    expect(later.notes.told).toEqual([]);
  });

  it("asks to be replaced when its ids run low and never reuses one", () => {
    const pair = new Pair({ firstStream: 2 ** 31 - 3 });
    const all = [open(pair), open(pair), open(pair)];
    pair.run();
    expect(pair.a.told).toEqual(["drain"]);
    expect(pair.b.told).toEqual(["drain"]);
    expect(all.map(({ state }) => state.id)).toEqual([2 ** 31 - 3, 2 ** 31 - 1, 0]);
    expect(all[2]?.notes.told).toEqual(["reset draining unprocessed", "closed"]);
  });

  it("drops and counts frames of streams that are over", () => {
    const pair = new Pair();
    const mine = open(pair);
    pair.run();
    resetStream(pair.a.link, mine.state, { failure: failure("cancelled", ""), unprocessed: false });
    receiveFrame(pair.a.link, FRAME.head, 0, mine.state.id, bytes("late"));
    receiveReset(pair.a.link, mine.state.id, { failure: failure("busy", ""), unprocessed: true });
    expect(pair.a.link.dropped).toBe(2);
    expect(pair.a.told).toEqual([]);
  });

  it("tells READY, DRAIN and CTL to the other side", () => {
    const pair = new Pair();
    pair.a.link.readyDue = true;
    pair.a.link.drainDue = true;
    sendCtl(pair.a.link, bytes("x"));
    pair.run();
    expect(pair.b.told).toEqual(["ready", "drain", "ctl x"]);
  });

  it("throws CTL away that nobody reads, above 4 MiB", () => {
    const pair = new Pair();
    for (let i = 0; i < 6; i++) sendCtl(pair.a.link, kib(900));
    expect(pair.a.link.ctl).toHaveLength(4);
    expect(pair.a.link.dropped).toBe(2);
  });

  const started = () => {
    const pair = new Pair();
    open(pair);
    pair.run();
    return pair;
  };
  it.each([
    ["a second OPEN of an id", (p: Pair) => receiveFrame(p.b.link, FRAME.open, 0, 1, NONE)],
    ["an OPEN with an id of ours", (p: Pair) => receiveFrame(p.b.link, FRAME.open, 0, 8, NONE)],
    ["a stream never opened", (p: Pair) => receiveFrame(p.b.link, FRAME.data, 0, 5, NONE)],
    ["a stream of ours never opened", (p: Pair) => receiveFrame(p.b.link, FRAME.head, 0, 2, NONE)],
    ["HEAD from the opener", (p: Pair) => receiveFrame(p.b.link, FRAME.head, 0, 1, NONE)],
    ["ACCEPT from the opener", (p: Pair) => receiveFrame(p.b.link, FRAME.accept, 0, 1, NONE)],
    ["DATA before HEAD", (p: Pair) => receiveFrame(p.a.link, FRAME.data, 0, 1, NONE)],
    ["END before HEAD", (p: Pair) => receiveFrame(p.a.link, FRAME.end, 0, 1, NONE)],
    ["HELLO once it is up", (p: Pair) => receiveFrame(p.a.link, FRAME.hello, 0, 0, NONE)],
    ["DATA on stream 0", (p: Pair) => receiveFrame(p.a.link, FRAME.data, 0, 0, NONE)],
    ["PING on a stream", (p: Pair) => receiveNumber(p.a.link, FRAME.ping, 1, 0)],
    [
      "DATA after END",
      (p: Pair) => {
        receiveFrame(p.b.link, FRAME.data, FLAG_END, 1, NONE);
        receiveFrame(p.b.link, FRAME.data, 0, 1, NONE);
      },
    ],
    [
      "two HEADs",
      (p: Pair) => {
        receiveFrame(p.a.link, FRAME.head, 0, 1, NONE);
        receiveFrame(p.a.link, FRAME.head, 0, 1, NONE);
      },
    ],
  ])("is closed with `protocol` by %s", (_, offend) => {
    const pair = started();
    offend(pair);
    expect([...pair.a.told, ...pair.b.told]).toEqual(["closed protocol"]);
    expect(pair.a.farewell ?? pair.b.farewell).toMatchObject({ failure: { code: "protocol" }, unprocessed: false });
  });
});

describe("liveness", () => {
  const silent = (pair: Pair, link: Pair["a"]["link"], ms: number) => {
    pair.now += ms;
    tick(link, pair.now, pair.now);
  };

  it("pings after a second of silence while a stream is open, and is lost three seconds after that", () => {
    const pair = new Pair();
    const mine = open(pair);
    pair.run();
    expect(nextTick(pair.a.link)).toBe(pair.now + 1_000);
    silent(pair, pair.a.link, 999);
    expect(hasWork(pair.a.link)).toBe(false);
    silent(pair, pair.a.link, 1);
    expect(hasWork(pair.a.link)).toBe(true);
    silent(pair, pair.a.link, 2_999);
    expect(pair.a.told).toEqual([]);
    silent(pair, pair.a.link, 1);
    expect(pair.a.told).toEqual(["closed node-gone"]);
    expect(mine.notes.told).toEqual(["reset node-gone", "closed"]);
  });

  it("lives on by any frame", () => {
    const pair = new Pair();
    open(pair);
    pair.run();
    for (let second = 0; second < 20; second++) {
      silent(pair, pair.a.link, 1_000);
      heard(pair.a.link, 1, pair.now);
    }
    expect(pair.a.told).toEqual([]);
  });

  it("pings an idle link every 20 seconds only", () => {
    const pair = new Pair().run();
    silent(pair, pair.a.link, 19_999);
    expect(hasWork(pair.a.link)).toBe(false);
    silent(pair, pair.a.link, 1);
    pair.frames.length = 0;
    pair.run();
    expect(pair.frames.map(([type]) => type)).toEqual([FRAME.ping, FRAME.pong]);
  });

  it("does not blame the other side when it was itself asleep", () => {
    const pair = new Pair();
    open(pair);
    pair.run();
    silent(pair, pair.a.link, 1_000);
    pair.now += 60_000;
    tick(pair.a.link, pair.now, pair.now - 57_000);
    expect(pair.a.told).toEqual([]);
    silent(pair, pair.a.link, 3_000);
    expect(pair.a.told).toEqual(["closed node-gone"]);
  });

  it("fails a HELLO that is not finished in five seconds, with proof for what waited", () => {
    const alone = new End({}, 0);
    const notes = new Notes();
    openStream(alone.link, bytes("open"), notes, 0);
    expect(nextTick(alone.link)).toBe(LINK_RULES.helloWithin);
    tick(alone.link, 5_000, 5_000);
    expect(alone.told).toEqual(["closed deadline"]);
    expect(notes.told).toEqual(["reset node-gone unprocessed", "closed"]);
  });
});
