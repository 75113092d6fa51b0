/** What a draining node lets go of, and when: agents spread, watches before other requests, interactive streams never. */
import { describe, expect, it } from "vitest";
import { createDrain, type DrainSettings } from "../../actors/drain.ts";
import { simulate } from "../support/simulate.ts";

const SETTINGS: DrainSettings = {
  spread: 4_000,
  grace: 5_000,
  watchesWithin: 30_000,
  requestsWithin: 600_000,
  timeout: 3_600_000,
};
const LOOK = 50;

type Gone = { readonly agents: number[]; readonly watches: number[]; readonly requests: number[] };

/** Looks as the node does, and writes down when what went. */
function drained(has: { agents?: number; watches?: number; requests?: number }, changes: Partial<DrainSettings> = {}) {
  const settings = { ...SETTINGS, ...changes };
  const left = { agents: 0, watches: 0, requests: 0, ...has };
  const gone: Gone = { agents: [], watches: [], requests: [] };
  const sim = simulate(createDrain(settings)).tell({ type: "begin", ends: true });
  for (; sim.now() <= settings.timeout && left.agents + left.watches + left.requests > 0; sim.advance(LOOK)) {
    sim.tell({ type: "look", ...left });
    for (const effect of sim.take()) {
      const what = effect.type === "move" ? "agents" : effect.what;
      left[what] -= effect.count;
      gone[what].push(...Array.from({ length: effect.count }, () => sim.now()));
    }
  }
  return gone;
}
const most = (times: readonly number[], span: number) =>
  Math.max(...times.map((from) => times.filter((at) => at >= from && at < from + span).length));

describe("a drain", () => {
  it("tells a few agents at once and a thousand evenly over its span", () => {
    const few = drained({ agents: 5 }).agents;
    expect(few).toHaveLength(5);
    expect(Math.max(...few)).toBeLessThanOrEqual(LOOK);
    const many = drained({ agents: 1_000 }).agents;
    expect(many).toHaveLength(1_000);
    expect(Math.max(...many)).toBeLessThanOrEqual(4_000);
    expect(most(many, 100)).toBeLessThanOrEqual(40);
  });

  it("tells at most 200 agents a second while the span is longer than that takes", () => {
    const times = drained({ agents: 200 }).agents;
    expect(Math.max(...times)).toBeGreaterThanOrEqual(950);
    expect(most(times, 100)).toBeLessThanOrEqual(21);
  });

  it("tells agents that connect while it drains, too", () => {
    const sim = simulate(createDrain(SETTINGS)).tell({ type: "begin", ends: true });
    sim.tell({ type: "look", agents: 1, watches: 0, requests: 0 });
    expect(sim.take()).toEqual([{ type: "move", count: 1 }]);
    sim.advance(60_000).tell({ type: "look", agents: 2, watches: 0, requests: 0 });
    expect(sim.take()).toEqual([{ type: "move", count: 2 }]);
  });

  it("ends no stream within the grace, then watches evenly, then other requests together", () => {
    const { watches, requests } = drained({ watches: 100, requests: 3 });
    expect(Math.min(...watches)).toBe(5_000);
    expect(Math.max(...watches)).toBeLessThanOrEqual(30_000);
    expect(most(watches, 1_000)).toBeLessThanOrEqual(6);
    expect(requests).toEqual([600_000, 600_000, 600_000]);
  });

  it("keeps that order within a short drain", () => {
    const { watches, requests } = drained({ watches: 4, requests: 2 }, { timeout: 20_000 });
    expect(watches).toHaveLength(4);
    expect(Math.max(...watches)).toBeLessThanOrEqual(10_000);
    expect(requests).toEqual([15_000, 15_000]);
  });

  it("only moves agents when an operator asks, ends streams from SIGTERM on, and stops when taken back", () => {
    const sim = simulate(createDrain(SETTINGS)).tell({ type: "begin", ends: false });
    sim.advance(700_000).tell({ type: "look", agents: 1, watches: 1, requests: 1 });
    expect(sim.take()).toEqual([{ type: "move", count: 1 }]);
    sim.tell({ type: "begin", ends: true }).tell({ type: "look", agents: 0, watches: 1, requests: 1 });
    expect(sim.take()).toEqual([]);
    sim.advance(5_000).tell({ type: "look", agents: 0, watches: 1, requests: 1 });
    expect(sim.take()).toEqual([{ type: "end", what: "watches", count: 1 }]);
    sim.tell({ type: "stay" }).advance(700_000).tell({ type: "look", agents: 3, watches: 3, requests: 3 });
    expect(sim.take()).toEqual([]);
  });
});
