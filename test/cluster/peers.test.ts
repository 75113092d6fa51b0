/** Links to the other members: dialled, lost, dialled again, moved, replaced and given up. */
import { describe, expect, it } from "vitest";
import type { NodeId } from "../../actors/ids.ts";
import { Heard, turns } from "../support/streams.ts";
import { ask, b, codes, leave, member, pass, self, world } from "./peer-world.ts";

describe("peers", () => {
  it("dial a member as it appears, and keep the link whose process is the one meant", async () => {
    const w = world();
    w.peers.follow([member(self, "a:8155"), member(b), member("c.1" as NodeId, "")]);
    const { answers } = ask(w);
    expect(codes(answers)).toEqual([]);
    await turns();
    expect(codes(answers)).toEqual(["link"]);
    expect(codes(ask(w).answers)).toEqual(["link"]);
    expect(w.dials.map(({ address }) => address)).toEqual(["b:8155"]);
    expect(w.told).toEqual(["heard b.1"]);
    expect([...w.peers.links()].map(([node]) => node)).toEqual([b]);
    await leave(w);
  });

  it("answer at once for a node that is no member", async () => {
    const w = world();
    expect(codes(ask(w).answers)).toEqual(["node-gone"]);
    await leave(w);
  });

  it.each(["refusal", "a stranger", "nonsense"] as const)(
    "tell who waits when a dial meets %s, and everybody who asks until the next dial",
    async (meets) => {
      const w = world();
      w.meets = meets;
      w.peers.follow([member(b)]);
      const waiting = ask(w);
      await turns();
      expect(codes(waiting.answers)).toEqual(["node-gone"]);
      expect(codes(ask(w).answers)).toEqual(["node-gone"]);
      expect(w.told).toEqual(["refused b.1"]);
      await leave(w);
    },
  );

  it.each(["silence", "a frozen kas"] as const)(
    "let nobody wait longer than 2 s when a dial meets %s",
    async (meets) => {
      const w = world();
      w.meets = meets;
      w.peers.follow([member(b)]);
      const waiting = ask(w);
      await pass(w, 1_950);
      expect(waiting.answers).toEqual([]);
      await pass(w, 100);
      expect(codes(waiting.answers)).toEqual(["node-gone"]);
      await pass(w, 5_000);
      expect(waiting.answers).toHaveLength(1);
      await leave(w);
    },
  );

  it("do not answer whoever stopped waiting", async () => {
    const w = world();
    w.peers.follow([member(b)]);
    const gone = ask(w);
    const other = ask(w);
    gone.waiting[Symbol.dispose]();
    await turns();
    expect([codes(gone.answers), codes(other.answers)]).toEqual([[], ["link"]]);
    await leave(w);
  });

  it("dial again after 100 ms, doubling to 2 s, and start over once a link was up", async () => {
    const w = world();
    w.meets = "refusal";
    w.peers.follow([member(b)]);
    await pass(w, 10_000, 10);
    const pauses = w.dials.slice(1).map(({ at }, i) => Math.round((at - (w.dials[i]?.at ?? 0)) / 100) * 100);
    expect(pauses.slice(0, 6)).toEqual([100, 200, 400, 800, 1_600, 2_000]);
    expect(pauses.slice(6).every((pause) => pause === 2_000)).toBe(true);
    w.meets = "kas";
    await pass(w, 2_100, 10);
    expect(codes(ask(w).answers)).toEqual(["link"]);
    const { length } = w.dials;
    w.wires.at(-1)?.cutAfter(0);
    await pass(w, 110, 10);
    expect(w.dials).toHaveLength(length + 1);
    await leave(w);
  });

  it("let requests wait for the redial when a link that was up is lost, and do not call that a refusal", async () => {
    const w = world();
    w.peers.follow([member(b)]);
    await turns();
    w.wires[0]?.cutAfter(0);
    const { answers } = ask(w);
    expect(answers).toEqual([]);
    await pass(w, 200, 20);
    expect(codes(answers)).toEqual(["link"]);
    expect(w.told).toEqual(["heard b.1", "heard b.1"]);
    await leave(w);
  });

  it("drop the link of a member that goes, with whoever waits, and dial it no more", async () => {
    const w = world();
    w.peers.follow([member(b)]);
    await turns();
    const link = w.peers.link(b);
    w.peers.follow([]);
    expect(link?.state).toBe("closed");
    w.meets = "silence";
    w.peers.follow([member(b)]);
    const { answers } = ask(w);
    w.peers.follow([]);
    expect(codes(answers)).toEqual(["node-gone"]);
    const { length } = w.dials;
    await pass(w, 5_000);
    expect(w.dials).toHaveLength(length);
    expect(w.told).not.toContain("refused b.1");
    await leave(w);
  });

  it("go to a member's new address at once while there is no link, and leave a link that is up alone", async () => {
    const w = world();
    w.meets = "silence";
    w.peers.follow([member(b, "old:8155")]);
    const { answers } = ask(w);
    await turns();
    w.meets = "kas";
    w.peers.follow([member(b, "new:8155")]);
    await turns();
    expect(codes(answers)).toEqual(["link"]);
    expect(w.dials.map(({ address }) => address)).toEqual(["old:8155", "new:8155"]);
    const link = w.peers.link(b);
    w.peers.follow([member(b, "newest:8155")]);
    await turns();
    expect(w.peers.link(b)).toBe(link);
    w.wires.at(-1)?.cutAfter(0);
    await pass(w, 200);
    expect(w.dials.at(-1)?.address).toBe("newest:8155");
    await leave(w);
  });

  it("replace a link that runs out of stream ids; what runs on it goes on to its end", async () => {
    const w = world();
    w.limits = { firstStream: 2 ** 31 - 2 ** 17 - 1 };
    w.peers.follow([member(b)]);
    await turns();
    const old = w.peers.link(b);
    w.limits = {};
    const heard = new Heard();
    const stream = old?.open(new Uint8Array(1), heard, 0);
    await turns();
    const fresh = w.peers.link(b);
    expect(fresh).not.toBe(old);
    expect([fresh?.state, old?.state]).toEqual(["up", "closing"]);
    stream?.end();
    await turns();
    expect(heard.told.at(-1)).toBe("closed");
    expect(heard.told).toContain("end");
    await turns();
    expect(old?.state).toBe("closed");
    expect(w.peers.link(b)).toBe(fresh);
    expect(w.dials).toHaveLength(2);
    await leave(w);
  });

  it("leave no timer, dial or link when they are disposed, whatever they were at", async () => {
    for (const meets of ["kas", "refusal", "silence", "a frozen kas"] as const) {
      const w = world();
      w.meets = meets;
      w.peers.follow([member(b)]);
      const { answers } = ask(w);
      await leave(w);
      expect(codes(answers)).toEqual(["node-gone"]);
      const again = world();
      again.meets = meets;
      again.peers.follow([member(b)]);
      await turns();
      const told = [...again.told];
      await leave(again);
      // Giving up a dial or a greeting says nothing about the other node.
      expect(again.told.filter((what) => what !== "dial given up")).toEqual(told);
    }
  });
});
