import { describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import { FLAG_END, FRAME } from "../../actors/frame.ts";
import { close, end, isDone } from "../../actors/link.ts";
import { receiveNumber } from "../../actors/link-number.ts";
import { receiveFrame, receiveReset } from "../../actors/link-receive.ts";
import { openStream, resetStream, sendCtl, sendEnd, sendHead } from "../../actors/link-send.ts";
import { bytes, Notes, Pair } from "../link/support.ts";

const open = (pair: Pair, from = pair.a, group = "g") => {
  const notes = new Notes();
  return { notes, state: openStream(from.link, bytes("open"), notes, group) };
};
const NONE = new Uint8Array(0);
const kib = (n: number) => new Uint8Array(n * 1024);

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

  it("is closed when the other side floods it and reads none of its refusals", () => {
    const pair = new Pair({}, { maxStreams: 0 });
    for (let id = 1; id < 20_002; id += 2) receiveFrame(pair.b.link, FRAME.open, 0, id, NONE);
    expect(pair.b.told).toEqual(["closed protocol"]);
    expect(pair.b.link.resets).toEqual([]);
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
