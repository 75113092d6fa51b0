import { describe, expect, it } from "vitest";
import { consumed, openStream, sendData, sendHead } from "../../actors/link-send.ts";
import { creditPool } from "../../actors/pool.ts";
import { heaviest, relieve } from "../../actors/relief.ts";
import { bytes, Notes, Pair } from "../link/support.ts";

const KIB = 1024;

/** Links of several agents that share one pool of 200 KiB; answers of 64 KiB come over each. */
function holder(links: number, hard = 200 * KIB) {
  const pool = creditPool({ hard });
  const pairs = Array.from({ length: links }, () => new Pair({}, {}, pool));
  const answer = (pair: Pair, size = 64 * KIB) => {
    const notes = new Notes();
    const asked = openStream(pair.b.link, bytes("open"), notes, "caller");
    pair.run();
    const serving = pair.a.last.state;
    sendHead(pair.a.link, serving, bytes("200"));
    sendData(pair.a.link, serving, new Uint8Array(size));
    pair.run();
    return { asked, notes, pair };
  };
  const pass = (millis: number) => {
    for (const pair of pairs) pair.now += millis;
  };
  return { pool, pairs, answer, pass };
}

describe("memory at its hard limit", () => {
  it("resets the stream that held most for longest with `busy`, on whichever link it is, and tells its other end", () => {
    const { pool, pairs, answer, pass } = holder(4);
    const [first, second, third, fourth] = pairs;
    if (!first || !second || !third || !fourth) throw new RangeError("no pairs");
    const small = answer(first, 16 * KIB);
    pass(1_000);
    const stalled = answer(second);
    pass(2_000);
    const late = answer(third);
    expect(pool.relieved).toBe(0);
    const last = answer(fourth);

    expect(pool.relieved).toBe(1);
    expect(stalled.notes.told.at(-2)).toBe("reset busy");
    expect(stalled.notes.ending?.failure.reason).toMatch(/0\.1 MiB for 2 s: read faster/);
    for (const { notes } of [small, late, last]) expect(notes.ending).toBeNull();
    expect(pool.held).toBeLessThanOrEqual(200 * KIB);
    second.run();
    expect(second.a.last.notes.told.at(-2)).toBe("reset busy");
  });

  it("spares a reader that is slow but reads, though it holds as much all the time", () => {
    const { pool, pairs, answer, pass } = holder(3);
    const [slow, stalled, other] = pairs;
    if (!slow || !stalled || !other) throw new RangeError("no pairs");
    const reading = answer(slow, 4_000 * KIB);
    pass(4_000);
    const idle = answer(stalled, 48 * KIB);
    for (let i = 0; i < 100; i++) {
      pass(50);
      consumed(slow.b.link, reading.asked, 16 * KIB);
      slow.run();
    }
    expect(reading.asked.window.held).toBe(64 * KIB);
    answer(other);
    answer(other);
    expect(idle.notes.told.at(-2)).toBe("reset busy");
    expect(reading.notes.ending).toBeNull();
    expect(pool.held).toBeLessThanOrEqual(200 * KIB);
  });

  it("takes as many as it needs, and nothing where nothing is held", () => {
    const { pool, pairs, answer } = holder(4, 1);
    const [only] = pairs;
    if (!only) throw new RangeError("no pairs");
    const answers = [answer(only), answer(only)];
    expect(answers.map(({ notes }) => notes.told.at(-2))).toEqual(["reset busy", "reset busy"]);
    expect([pool.held, pool.lent, pool.relieved]).toEqual([0, 0, 2]);
    expect(heaviest(pool, 10_000)).toBeNull();
    relieve(pool, 10_000);
    expect(pool.relieved).toBe(2);
  });
});
