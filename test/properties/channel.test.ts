/** A registrar and a home agree in the end, whatever their channel loses, doubles or delays. */
import fc from "fast-check";
import { expect, it } from "vitest";
import type { ChannelMessage, Entry } from "../../actors/channel.ts";
import { createHome } from "../../actors/home.ts";
import type { AgentId, ConnectionId, NodeId } from "../../actors/ids.ts";
import { createRegistrar } from "../../actors/registrar.ts";
import { noSlots } from "../../actors/ring.ts";
import { ROUTING_DEFAULTS } from "../../src/cluster/routing-settings.ts";
import { simulate } from "../support/simulate.ts";

const holderId = "a.1" as NodeId;
const self = "h.1" as NodeId;
const LOST = 0;
const LATE = 1;
const TWICE = 2;

const entry = (n: number): Entry => ({
  connection: n as ConnectionId,
  agent: (1 + (n % 5)) as AgentId,
  instance: `pod-${n}`,
  process: "p",
  link: 1,
  lost: [],
  since: n,
  draining: false,
});

/** Both ends of one channel, and luck. */
class Pair {
  readonly holder = simulate(createRegistrar({ ...ROUTING_DEFAULTS.registrar, partBytes: 200 }, 1, 1));
  readonly home = simulate(createHome(self, ROUTING_DEFAULTS.home));
  readonly live = new Set<number>();
  readonly #luck: readonly number[];
  #turn = 0;
  #late: ChannelMessage[] = [];

  constructor(luck: readonly number[]) {
    this.#luck = luck;
    this.holder.tell({ type: "assign", slots: noSlots().fill(255), entries: [] });
    this.rejoin();
  }

  /** A false death: the home drops the channel and believes in the member again. */
  rejoin(): void {
    this.home.tell({ type: "members", self, members: new Set(), wall: 0 });
    this.home.tell({ type: "members", self, members: new Set([holderId]), wall: 0 });
  }

  put(n: number): void {
    if (!this.live.has(n)) this.holder.tell({ type: "put", entry: entry(n) });
    this.live.add(n);
  }

  remove(n: number): void {
    this.holder.tell({ type: "remove", connection: n as ConnectionId });
    this.live.delete(n);
  }

  pass(time: number, fair: boolean): void {
    for (let at = 0; at < time; at += 50) {
      this.holder.advance(50);
      this.home.advance(50);
      this.#deliver(fair);
      this.#answer(fair);
    }
  }

  #fate(fair: boolean): number {
    return fair ? 9 : (this.#luck[this.#turn++ % this.#luck.length] ?? 9);
  }

  #deliver(fair: boolean): void {
    const messages = this.#late;
    this.#late = [];
    for (const effect of this.holder.take()) if (effect.type === "send") messages.push(effect.message);
    for (const message of messages) {
      const fate = this.#fate(fair);
      if (fate === LATE) this.#late.push(message);
      else if (fate !== LOST) this.#arrive(message, fate === TWICE ? 2 : 1);
    }
  }

  #arrive(message: ChannelMessage, copies: number): void {
    for (let i = 0; i < copies; i++) this.home.tell({ type: "channel", from: holderId, message, wall: 0 });
  }

  #answer(fair: boolean): void {
    for (const effect of this.home.take()) {
      if (this.#fate(fair) === LOST) continue;
      if (effect.type === "ack") this.holder.tell({ type: "acked", position: effect.position });
      else if (effect.type === "need-snap") this.holder.tell({ type: "wanted" });
    }
  }
}

const connection = fc.integer({ min: 1, max: 12 });
const action = fc.oneof(
  connection.map((n) => (pair: Pair) => pair.put(n)),
  connection.map((n) => (pair: Pair) => pair.remove(n)),
  fc.integer({ min: 1, max: 500 }).map((n) => (pair: Pair) => pair.pass(n, false)),
  fc.constant((pair: Pair) => pair.rejoin()),
);
const luck = fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 40 });
const sorted = (numbers: Iterable<number>) => [...numbers].sort((a, b) => a - b);

it("ends with exactly the live connections in the index, and none waiting to be registered", () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), luck, (actions, fates) => {
      const pair = new Pair(fates);
      for (const act of actions) act(pair);
      pair.pass(10_000, true);

      expect(sorted(pair.home.state.channels.get(holderId)?.entries.keys() ?? [])).toEqual(sorted(pair.live));
      expect(pair.holder.state.waiting).toEqual([]);
    }),
    { numRuns: 60 },
  );
});
