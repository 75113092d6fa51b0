/**
 * Sessions that last for hours and say nothing, through balancers that cut what is idle. Here every interval is a tenth (the
 * balancers cut after 6 s instead of 60) and the time is five of the balancers' limits; `npm run soak` runs it at full length.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LongStreams } from "../soak/long-streams.ts";
import { printLogsOnFailure } from "./support/cluster.ts";
import { needNats } from "./support/need.ts";
import { report } from "./support/scene.ts";
import { until } from "./support/wait.ts";

const nats = await needNats();
const IDLE_FOR = 6_000;
/** `pong_within` stays: how late an answer may be is the machine's doing. */
const TENTH = { timings: { ping_after: "100ms", idle_ping_after: "2s", heartbeat_interval: "100ms" } };
/** Target 1 s. */
const CLOSED_WITHIN = 5_000;

describe.skipIf(!nats)("sessions that are idle for long", () => {
  let long: LongStreams;
  printLogsOnFailure(() => long?.cluster);

  beforeAll(async () => {
    long = await LongStreams.start({ idleFor: IDLE_FOR, echoPing: 500, watchPing: 3_000, settings: TENTH });
  }, 120_000);
  afterAll(async () => await long?.[Symbol.asyncDispose]());

  it("F18: keeps an idle exec, port-forward and watch open through balancers that cut what is idle (a tenth of 60 s)", async () => {
    await long.work();
    await sleep(5 * IDLE_FOR);

    expect(long.faults()).toEqual([]);
    expect(long.controlCut, "a connection that says nothing was cut").toBe(true);
    await long.work();
    report("F18", { sessions: long.sessions.length, cutAfter: IDLE_FOR, idleFor: 5 * IDLE_FOR });
  }, 120_000);

  it("F19: tells the callers of an exec and a port-forward that were idle for long that their pod is gone", async () => {
    const echoes = long.sessions.filter(({ name }) => name === "exec" || name === "port-forward");
    expect(echoes.map(({ ended }) => ended)).toEqual([null, null]);
    const begun = performance.now();
    long.upstream.hangUp();
    await until("both to be closed", () => echoes.every(({ ended }) => ended !== null), { within: CLOSED_WITHIN });

    expect(echoes.map(({ ended }) => ended)).toEqual(["closed with 1000", "closed with 1000"]);
    report("F19 after a long idle time", { closed: performance.now() - begun });
  });
});
