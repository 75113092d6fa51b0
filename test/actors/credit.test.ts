import { describe, expect, it } from "vitest";
import {
  consumeBytes,
  creditPool,
  giveBack,
  grant,
  KIB,
  linkWindow,
  MIB,
  measured,
  receiveBytes,
  receiveWindow,
} from "../../actors/credit.ts";

describe("the window of a stream", () => {
  const use = (window: ReturnType<typeof receiveWindow>, pool: ReturnType<typeof creditPool>, now: number) => {
    const bytes = window.allowed;
    expect(receiveBytes(window, bytes)).toBe(true);
    consumeBytes(window, bytes, pool, 10, now);
    grant(window);
  };

  it("doubles up to 4 MiB while it is used up within two round trips, and shrinks when it takes a second", () => {
    const pool = creditPool();
    const window = receiveWindow(64 * KIB, 0);
    for (let i = 1; i <= 10; i++) use(window, pool, i * 19);
    expect(window.size).toBe(4 * MIB);
    expect(pool.lent).toBe(4 * MIB - 64 * KIB);
    use(window, pool, 190 + 1_001);
    expect(window.size).toBe(64 * KIB);
    expect(pool.lent).toBe(0);
    expect(window.allowed).toBe(64 * KIB);
  });

  it("does not grow when it takes longer than two round trips", () => {
    const window = receiveWindow(64 * KIB, 0);
    for (let i = 1; i <= 10; i++) use(window, creditPool(), i * 21);
    expect(window.size).toBe(64 * KIB);
  });

  it("does not grow from an empty pool", () => {
    const pool = creditPool(10);
    const window = receiveWindow(64 * KIB, 0);
    for (let i = 1; i <= 5; i++) use(window, pool, i);
    expect(window.size).toBe(64 * KIB + 10);
    giveBack(window, pool);
    expect(pool.lent).toBe(0);
  });

  it("never grants more than was held, whatever the consumer claims", () => {
    const window = receiveWindow(64 * KIB, 0);
    receiveBytes(window, 100);
    consumeBytes(window, 1e9, creditPool(0), 1, 0);
    expect(window.held).toBe(0);
    expect(grant(window)).toBe(100);
    expect(window.allowed).toBe(64 * KIB);
  });
});

describe("the window of a link", () => {
  it("doubles while a loaded PING is at most 30 ms slower than an idle one, and halves above", () => {
    const window = linkWindow();
    measured(window, 20, false, 0);
    measured(window, 50, true, 1e6);
    expect(window.size).toBe(1 * MIB);
    for (let i = 0; i < 9; i++) measured(window, 50, true, 1e6);
    expect(window.size).toBe(8 * MIB);
    measured(window, 51, true, 1e6);
    expect(window.size).toBe(4 * MIB);
    for (let i = 0; i < 6; i++) measured(window, 500, true, 1e6);
    expect(window.size).toBe(64 * KIB);
  });

  it("recognises a path that became longer, so that it is not held at the floor for ever", () => {
    const window = linkWindow();
    measured(window, 1, false, 0);
    for (let i = 0; i < 8; i++) measured(window, 200, true, 1e6);
    expect(window.size).toBeGreaterThan(64 * KIB);
    expect(window.roundTrip).toBe(200);
  });
});
