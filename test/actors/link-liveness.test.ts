import { describe, expect, it } from "vitest";
import { FRAME } from "../../actors/frame.ts";
import { nextTick, tick } from "../../actors/link-liveness.ts";
import { hasWork } from "../../actors/link-pack.ts";
import { heard } from "../../actors/link-receive.ts";
import { LINK_RULES } from "../../actors/link-rules.ts";
import { openStream } from "../../actors/link-send.ts";
import { bytes, End, Notes, Pair } from "../link/support.ts";

const open = (pair: Pair, from = pair.a, group = "g") => {
  const notes = new Notes();
  return { notes, state: openStream(from.link, bytes("open"), notes, group) };
};

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

  it("does everything at the very time it asked for, whatever the time is rounded to", () => {
    // (now + 5000) - now is less than 5000 here
    const now = 29_783.15623537514;
    const alone = new End({}, now);
    tick(alone.link, nextTick(alone.link), nextTick(alone.link));
    expect(alone.told).toEqual(["closed deadline"]);
  });
});
