import { describe, expect, it } from "vitest";
import {
  burden,
  consumeBytes,
  grant,
  KIB,
  type LinkWindow,
  linkWindow,
  MIB,
  measured,
  type ReceiveWindow,
  receiveBytes,
  receiveWindow,
  release,
} from "../../actors/credit.ts";
import { failure } from "../../actors/failure.ts";
import { openStream, resetStream } from "../../actors/link-send.ts";
import { type CreditPool, creditPool } from "../../actors/pool.ts";
import { bytes, Notes, Pair } from "../link/support.ts";

const ROUND_TRIP = 10;

/** The sender uses all it may, the consumer takes it at once, at `now`. */
function use(window: ReceiveWindow, now: number, owner: number | string = "agent"): void {
  const bytes = window.allowed;
  expect(receiveBytes(window, bytes, now)).toBe(true);
  consumeBytes(window, bytes, now);
  grant(window, owner, ROUND_TRIP, now);
}

const windowOf = (pool: CreditPool = creditPool()) => receiveWindow(64 * KIB, 0, pool);

/** A window of 4 MiB, of which nothing is held at `10 × its uses`. */
function grown(pool: CreditPool, owner: number | string = "agent"): ReceiveWindow {
  const window = windowOf(pool);
  for (let i = 1; i <= 7; i++) use(window, i * 10, owner);
  return window;
}

describe("the window of a stream", () => {
  it("doubles up to 4 MiB while it is used up within three round trips, and falls to its floor when it takes a second", () => {
    const pool = creditPool();
    const window = windowOf(pool);
    for (let i = 1; i <= 10; i++) use(window, i * 29);
    expect(window.size).toBe(4 * MIB);
    expect(pool.lent).toBe(4 * MIB - 64 * KIB);
    use(window, 290 + 1_001);
    expect(window.size).toBe(64 * KIB);
    expect(pool.lent).toBe(0);
    expect(pool.shares.size).toBe(0);
    expect(window.allowed).toBe(64 * KIB);
  });

  it("does not grow when it takes longer than that", () => {
    const window = windowOf();
    for (let i = 1; i <= 10; i++) use(window, i * 31);
    expect(window.size).toBe(64 * KIB);
  });

  it("does not grow for a consumer that always leaves more than a quarter of it lying, and shrinks by what it leaves", () => {
    const window = grown(creditPool());
    expect(window.size).toBe(4 * MIB);
    receiveBytes(window, window.allowed, 100);
    for (let i = 0; i < 200 && window.size > 64 * KIB; i++) {
      consumeBytes(window, 64 * KIB, 100 + i);
      receiveBytes(window, grant(window, "agent", ROUND_TRIP, 100 + i), 100 + i);
    }
    expect(window.size).toBe(64 * KIB);
    expect(window.held + window.allowed + window.due).toBe(64 * KIB);
  });

  it("takes what came late into account as it is granted, not as it was consumed", () => {
    const window = windowOf();
    receiveBytes(window, 64 * KIB, 1);
    consumeBytes(window, 64 * KIB, 1); // the link has heard nothing since 1 and does not know that it is 500 now
    grant(window, "agent", ROUND_TRIP, 500);
    expect(window.size).toBe(64 * KIB);
  });

  it("never grants more than was held, whatever the consumer claims", () => {
    const window = windowOf(creditPool({ growth: 0 }));
    receiveBytes(window, 100, 0);
    consumeBytes(window, 1e9, 0);
    expect(window.held).toBe(0);
    expect(grant(window, "agent", 1, 0)).toBe(100);
    expect(window.allowed).toBe(64 * KIB);
  });
});

describe("the pool that windows borrow from", () => {
  it("lends no more than it has, and takes all of it back", () => {
    const pool = creditPool({ growth: 100 });
    const window = grown(pool);
    expect(window.size - 64 * KIB).toBe(pool.lent);
    expect(pool.lent).toBe(50);
    release(window, 0);
    expect([pool.lent, pool.shares.size]).toEqual([0, 0]);
  });

  it("lends to each agent no more than its share, however much the others leave", () => {
    const pool = creditPool({ perAgent: 1 * MIB });
    const [greedy, second, other] = [grown(pool, 1), grown(pool, 1), grown(pool, 2)];
    expect(greedy.size + second.size - 128 * KIB).toBeLessThanOrEqual(1 * MIB);
    expect(other.size).toBe(greedy.size);
    for (const window of [greedy, second, other]) release(window, 0);
    expect([pool.lent, pool.shares.size]).toEqual([0, 0]);
  });

  it("leaves as much to others as it lends to one, and takes some back from those who came first", () => {
    const pool = creditPool({ perAgent: 4 * MIB });
    const windows = [grown(pool, 1), grown(pool, 1), grown(pool, 1)];
    expect(windows.map(({ size }) => (size - 64 * KIB) / MIB)).toEqual([2, 1, 0.5]);
    for (let i = 1; i < 40; i++) for (const window of windows) use(window, 100 + i * 10, 1);
    for (const { size } of windows) expect(size - 64 * KIB).toBeCloseTo(MIB, -4);
    expect(pool.lent).toBeLessThan(4 * MIB);
  });

  it("does not count the loan of a window that nobody uses, until it holds more than its floor again", () => {
    const pair = new Pair({}, {}, creditPool({ perAgent: 1 * MIB }));
    const { pool } = pair.b.link;
    const opened = openStream(pair.a.link, bytes("open"), new Notes(), "agent");
    pair.run();
    const quiet = pair.b.last.state.window;
    for (let i = 1; i <= 7; i++) use(quiet, 1_000 + i * 10, 0);
    const { size } = quiet;
    expect(size).toBeGreaterThan(512 * KIB);

    const early = receiveWindow(64 * KIB, 1_500, pool);
    for (let i = 1; i <= 7; i++) use(early, 1_500 + i * 10, 0);
    const late = receiveWindow(64 * KIB, 3_000, pool);
    for (let i = 1; i <= 7; i++) use(late, 3_000 + i * 10, 0);
    expect(early.size, "the loan was in use a moment ago").toBeLessThan(late.size);
    expect(quiet.size, "what was granted cannot be taken back").toBe(size);

    receiveBytes(quiet, 64 * KIB, 4_000);
    const before = pool.lent;
    receiveBytes(quiet, 1, 4_000);
    expect(pool.lent - before).toBe(size - 64 * KIB);
    for (const window of [early, late]) release(window, 4_000);
    resetStream(pair.a.link, opened, { failure: failure("cancelled", ""), unprocessed: false });
    pair.run();
    expect([pool.lent, pool.held, pool.shares.size]).toEqual([0, 0, 0]);
  });
});

describe("what a stream holds", () => {
  it("weighs by how long it is held, so that a slow reader weighs less than one that stalled", () => {
    const pool = creditPool();
    const [stalled, slow] = [windowOf(pool), windowOf(pool)];
    receiveBytes(stalled, 32 * KIB, 0);
    receiveBytes(slow, 64 * KIB, 0);
    for (let now = 100; now <= 10_000; now += 100) {
      consumeBytes(slow, 8 * KIB, now);
      receiveBytes(slow, grant(slow, "agent", 1, now), now);
    }
    expect(slow.held).toBeGreaterThan(stalled.held);
    expect(burden(stalled, 10_000)).toBeGreaterThan(2 * burden(slow, 10_000));
  });

  it("counts what small pieces cost beside their bytes, and forgets it as they are taken", () => {
    const pool = creditPool();
    const window = windowOf(pool);
    for (let i = 0; i < 1_000; i++) receiveBytes(window, 1, 0);
    expect(pool.held).toBe(1_000 * 257);
    consumeBytes(window, 500, 1);
    for (let i = 0; i < 500; i++) receiveBytes(window, 1, 1);
    consumeBytes(window, 999, 2);
    expect(pool.held).toBeLessThanOrEqual(1_001 * 257);
    consumeBytes(window, 1, 3);
    expect(pool.held).toBe(0);
  });
});

describe("the window of a link", () => {
  const full = (window: LinkWindow, roundTrip: number) => measured(window, roundTrip, true, false);

  it("doubles up to 8 MiB while PINGs are hardly slower than on the idle link, and halves for two slow ones in a row", () => {
    const window = linkWindow();
    measured(window, 1, false, true);
    for (let i = 0; i < 9; i++) full(window, 4);
    expect(window.size).toBe(8 * MIB);
    full(window, 100);
    full(window, 4);
    full(window, 100);
    expect(window.size, "one slow PING may have met a busy process").toBe(8 * MIB);
    full(window, 100);
    expect(window.size).toBe(4 * MIB);
  });

  it("tolerates a quarter of a long path's round trip", () => {
    const window = linkWindow();
    measured(window, 80, false, true);
    full(window, 100);
    expect(window.size).toBe(1 * MIB);
    full(window, 101);
    full(window, 101);
    expect(window.size).toBe(512 * KIB);
  });

  it("goes on halving while that makes PINGs faster", () => {
    const window = linkWindow();
    measured(window, 1, false, true);
    for (const roundTrip of [80, 40, 20]) {
      full(window, roundTrip);
      full(window, roundTrip);
    }
    expect(window.size).toBe(64 * KIB);
    expect(window.idleRoundTrip).toBe(1);
  });

  it("does not halve any more where PINGs stay as slow as they were: the delay is not its own", () => {
    const window = linkWindow();
    measured(window, 1, false, true);
    for (let i = 0; i < 4; i++) full(window, 50);
    expect(window.size).toBe(128 * KIB);
    for (let i = 0; i < 4; i++) full(window, 50);
    expect(window.size).toBe(2 * MIB);
  });

  it("takes for idle what a PING needs only while little else was on its way, either way", () => {
    const window = linkWindow();
    measured(window, 10, false, true);
    measured(window, 50, false, false);
    expect(window.idleRoundTrip).toBe(10);
    measured(window, 50, false, true);
    expect(window.idleRoundTrip).toBe(20);
    measured(window, 5, false, false);
    expect(window.idleRoundTrip).toBe(5);
    expect(window.roundTrip).toBe(5);
  });
});
