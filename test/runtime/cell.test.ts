/** What a running actor promises to who tells it. */
import { describe, expect, it } from "vitest";
import type { Actor } from "../../actors/actor.ts";
import { Failed } from "../../src/failed.ts";
import { ask } from "../../src/runtime/ask.ts";
import { Cell } from "../../src/runtime/cell.ts";
import { System } from "../../src/runtime/system.ts";
import { Wheel } from "../../src/runtime/wheel.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

type Message =
  | { readonly type: "add"; readonly n: number }
  | { readonly type: "later"; readonly at: number }
  | { readonly type: "throw" };
type Effect = { readonly type: "sum"; readonly sum: number };

const adder: Actor<number, Message, Effect> = {
  initial: 0,
  receive(state, message) {
    switch (message.type) {
      case "add":
        return [state + message.n, [{ type: "sum", sum: state + message.n }]];
      case "later":
        return [state, [{ type: "schedule", key: "later", at: message.at, message: { type: "add", n: 100 } }]];
      case "throw":
        throw new TypeError("a bug");
    }
  },
};

function spawn(perform: (effect: Effect) => void = () => {}, capacity = 1_024) {
  const clock = new VirtualClock();
  const crashes: unknown[] = [];
  const cell = new Cell(adder, { name: "adder", clock, perform, crashed: (error) => crashes.push(error), capacity });
  return { clock, crashes, cell };
}

describe("a cell", () => {
  it("takes one message to its end before the next, in the order they were told", () => {
    const sums: number[] = [];
    const { cell } = spawn(({ sum }) => {
      sums.push(sum);
      if (sum === 1) {
        cell.tell({ type: "add", n: 10 });
        cell.tell({ type: "add", n: 20 });
        expect(cell.state).toBe(1);
      }
    });
    cell.tell({ type: "add", n: 1 });
    expect(sums).toEqual([1, 11, 31]);
  });

  it("refuses with busy what does not fit into its mailbox, and loses nothing that did", () => {
    const answers: unknown[] = [];
    const { cell } = spawn(({ sum }) => {
      if (sum !== 1) return;
      for (let i = 0; i < 3; i++) answers.push(cell.tell({ type: "add", n: 10 })?.code ?? null);
    }, 2);
    cell.tell({ type: "add", n: 1 });
    expect(answers).toEqual([null, null, "busy"]);
    expect(cell.state).toBe(21);
  });

  it("starts from nothing when its actor throws, without the timers it had", () => {
    const { cell, clock, crashes } = spawn();
    cell.tell({ type: "add", n: 1 });
    cell.tell({ type: "later", at: 50 });
    cell.tell({ type: "throw" });
    expect(crashes).toMatchObject([{ message: "a bug" }]);
    expect(cell.state).toBe(0);
    clock.advance(100);
    cell.tell({ type: "add", n: 2 });
    expect(cell.state).toBe(2);
  });

  it("replaces a timer of the same key by the newer one", () => {
    const { cell, clock } = spawn();
    cell.tell({ type: "later", at: 50 });
    cell.tell({ type: "later", at: 70 });
    clock.advance(60);
    expect(cell.state).toBe(0);
    clock.advance(10);
    expect(cell.state).toBe(100);
    expect(clock.pending).toBe(0);
  });

  it("ends its timers with itself and takes nothing more", () => {
    const { cell, clock } = spawn();
    cell.tell({ type: "later", at: 50 });
    cell[Symbol.dispose]();
    expect(clock.pending).toBe(0);
    cell.tell({ type: "add", n: 1 });
    expect(cell.state).toBe(0);
  });
});

describe("a system", () => {
  it("logs a crash and lets whoever spawned the cell feed it again", () => {
    const logged: string[] = [];
    const system = new System({ clock: new VirtualClock(), log: (text) => logged.push(text) });
    const cell = system.spawn("adder/1", adder, {
      perform: () => {},
      respawned: () => cell.tell({ type: "add", n: 5 }),
    });
    cell.tell({ type: "add", n: 1 });
    cell.tell({ type: "throw" });
    expect(logged).toEqual(["adder/1 threw and starts from nothing"]);
    expect(cell.state).toBe(5);
    system[Symbol.dispose]();
    expect(system.size).toBe(0);
  });
});

describe("ask", () => {
  const late = { code: "deadline", reason: "no answer" } as const;

  it("resolves with the answer and leaves no timer", async () => {
    const clock = new VirtualClock();
    const answer = ask<number>(clock, 100, late, (give) => {
      give(7);
      return null;
    });
    expect(await answer).toBe(7);
    expect(clock.pending).toBe(0);
  });

  it("fails at its deadline, and at once when the mailbox is full", async () => {
    const clock = new VirtualClock();
    const waiting = ask<number>(clock, 100, late, () => null);
    clock.advance(100);
    await expect(waiting).rejects.toMatchObject({ failure: late });
    const refused = ask<number>(clock, 100, late, () => ({ code: "busy", reason: "full" }));
    await expect(refused).rejects.toBeInstanceOf(Failed);
    expect(clock.pending).toBe(0);
  });
});

describe("a wheel", () => {
  it("runs nothing early and nothing more than a tick late", () => {
    const clock = new VirtualClock();
    const wheel = new Wheel(clock, 10);
    const late: number[] = [];
    for (let at = 1; at <= 500; at += 7) wheel.schedule(at, () => late.push(clock.now() - at));
    clock.advance(600);
    expect(late.length).toBe(72);
    expect(Math.min(...late)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...late)).toBeLessThan(10);
    expect(clock.pending).toBe(0);
  });

  it("holds one timer for any number of waits and forgets disposed ones", () => {
    const clock = new VirtualClock();
    const wheel = new Wheel(clock, 10);
    let ran = 0;
    const waits = Array.from({ length: 1_000 }, (_, i) => wheel.schedule(20_000 + (i % 3), () => ran++));
    expect(clock.pending).toBe(1);
    for (const wait of waits.slice(1)) wait[Symbol.dispose]();
    expect(wheel.size).toBe(1);
    clock.advance(21_000);
    expect(ran).toBe(1);
    expect(clock.pending).toBe(0);
  });

  it("takes waits made while it turns", () => {
    const clock = new VirtualClock();
    const wheel = new Wheel(clock, 10);
    const ran: number[] = [];
    wheel.schedule(10, () => wheel.schedule(15, () => ran.push(clock.now())));
    clock.advance(100);
    expect(ran).toEqual([20]);
  });
});
