import { describe, expect, it } from "vitest";
import { creditPool } from "../../actors/pool.ts";
import { load } from "../support/link-load.ts";

const MIB = 1024 * 1024;
const MB = 1_000; // bytes per millisecond and MB/s
const LAN = { roundTrip: 0.2, rate: 1_000 * MB, work: 200 * MB, turn: 0.2, lasts: 1_500 };
const WAN = { roundTrip: 50, rate: 100 * MB, work: 200 * MB, turn: 0.5, lasts: 3_000 };

describe("a small request beside 20 readers at full speed", () => {
  it("waits for no more than a few milliseconds of their bytes, and they lose nothing by it", () => {
    const { rate, p50, p99 } = load({ ...LAN, readers: 20 });
    expect(rate).toBeGreaterThan(0.95 * 200 * MB);
    expect(p50).toBeLessThan(8);
    expect(p99).toBeLessThan(12);
  });

  it("waits for no more than a quarter of a long path's round trip, which they fill", () => {
    const alone = load({ ...WAN, readers: 0 });
    const beside = load({ ...WAN, readers: 20 });
    expect(beside.rate).toBeGreaterThan(0.85 * 100 * MB);
    expect(beside.p99).toBeLessThan(alone.p99 + 50 / 4);
    const narrow = load({ ...WAN, rate: 20 * MB, readers: 20 });
    expect(narrow.rate).toBeGreaterThan(0.9 * 20 * MB);
    expect(narrow.p99).toBeLessThan(2 * alone.p99);
  });

  it("does not make the link give way to processes that are kept from their core", () => {
    let turns = 0;
    const away = () => (turns++ % 5 === 0 ? 8 : 0);
    const { rate, path } = load({ ...LAN, away, readers: 20 });
    expect(rate).toBeGreaterThan(0.6 * 200 * MB);
    expect(path.near.link.window.size).toBeGreaterThan(256 * 1024);
  });
});

describe("the windows of streams over a path", () => {
  it.each([0.2, 2, 5])("let one stream use all of a short path whose processes turn every %d ms", (turn) => {
    const { rate } = load({ ...LAN, turn, work: 300 * MB, readers: 1 });
    expect(rate).toBeGreaterThan(0.6 * 300 * MB);
  });

  it("grow no further than 20 readers need, who stall after 4 MB each: half a MiB each is held", () => {
    const pool = creditPool();
    const { rate, path } = load({ ...LAN, pool, readers: 20, each: 4_000_000 });
    expect(rate * LAN.lasts).toBe(20 * 4_000_000);
    expect(path.far.link.pool).toBe(pool);
    expect(pool.held).toBeGreaterThan(20 * 64 * 1024);
    expect(pool.held).toBeLessThan(10 * MIB);
    expect(pool.lent).toBeLessThanOrEqual(pool.limits.perAgent);
  });
});
