/** A worker as its supervisor sees it: real processes that speak the protocol, restarted in virtual time. */
import { spawn } from "node:child_process";
import { afterEach, describe, expect, it } from "vitest";
import type { Failure } from "../../../actors/failure.ts";
import { parseKasConfig } from "../../../src/config/kas.ts";
import { WorkerProcess } from "../../../src/kas/workers/worker-process.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

const UP = 'process.send({ type: "listening", listener: "agent", address: "1.2.3.4:5" }); told("ready");';
/** What every program of these tests begins with; `told` says its state. */
const PRELUDE = `
const told = (phase, then) => process.send({ type: "state", ready: phase === "ready", phase, reason: "" }, then);
const failed = (reason) => process.send({ type: "failed", failure: { code: "invalid", reason } }, () => process.exit(1));
const heard = (react) => process.on("message", (message) => react(message));
process.on("disconnect", () => process.exit(0));
`;
/** It is up at once and ends when it is told to. */
const STEADY = `heard(({ type }) => { if (type === "start") { ${UP} } else process.exit(0); });`;

const sources = { file: "kas.yaml", env: {}, hostname: "kas-0", interfaces: [], readFile: () => "" };
const { config } = parseKasConfig("", sources);

const running: WorkerProcess[] = [];
afterEach(() => {
  for (const worker of running.splice(0)) worker.kill();
});

/** Runs the programs in turn, the last one from then on. */
function supervised(...programs: readonly string[]) {
  const clock = new VirtualClock();
  const pids: number[] = [];
  const errors: string[] = [];
  const refusals: Failure[] = [];
  const log = { debug() {}, info() {}, warn() {}, error: (msg: string) => void errors.push(msg), child: () => log };
  let restarts = 0;
  const worker = new WorkerProcess({
    index: 1,
    config,
    clock,
    random: () => 1,
    log,
    spawn() {
      const program = programs[Math.min(pids.length, programs.length - 1)] ?? "";
      const stdio = ["ignore", "ignore", "inherit", "ipc"] as const;
      const child = spawn(process.execPath, ["-e", `${PRELUDE}${program}`], { stdio: [...stdio] });
      pids.push(child.pid ?? 0);
      return child;
    },
    restarting: () => void restarts++,
    refused: (why) => void refusals.push(why),
  });
  running.push(worker);
  return { worker, clock, pids, errors, refusals, restarts: () => restarts };
}

const eventually = async (holds: () => boolean) =>
  await expect.poll(holds, { timeout: 10_000, interval: 5 }).toBe(true);
const isReady = (worker: WorkerProcess) => () => worker.readiness.ready;

describe("a worker process", () => {
  it("is up with the addresses it told, and ready as it says", async () => {
    const { worker } = supervised(STEADY);
    expect(worker.takesSockets).toBe(false);
    expect(await worker.start()).toEqual(new Map([["agent", "1.2.3.4:5"]]));
    expect([worker.readiness, worker.takesSockets, worker.alive]).toMatchObject([{ ready: true }, true, true]);
    await worker.end("stop", 5_000);
    expect([worker.readiness.ready, worker.takesSockets]).toEqual([false, false]);
  });

  it("cannot start for the reason that it gives", async () => {
    const { worker, restarts } = supervised('failed("the port is taken")');
    await expect(worker.start()).rejects.toThrow("the port is taken");
    expect(restarts()).toBe(0);
  });

  it("cannot start when it ends without a word, or is up too late", async () => {
    await expect(supervised("process.exit(3)").worker.start()).rejects.toThrow(
      "worker 1 ended by itself (exit code 3)",
    );
    const { worker, clock } = supervised("heard(() => {})");
    const started = worker.start();
    clock.advance(60_000);
    await expect(started).rejects.toThrow("not up within 60 s");
  });

  it("is started again after 1 s, then 2, 4 … at most 15, and told that it replaces another", async () => {
    const once = `heard(({ replaces }) => told(replaces ? "ready" : "joining", () => process.kill(process.pid, "SIGKILL")));`;
    const { worker, clock, pids, restarts } = supervised(once);
    await worker.start();
    for (const [n, rest] of [1_000, 2_000, 4_000, 8_000, 15_000, 15_000].entries()) {
      await eventually(() => restarts() === n + 1);
      clock.advance(rest - 1);
      expect(pids).toHaveLength(n + 1);
      clock.advance(1);
      expect(pids).toHaveLength(n + 2);
    }
  });

  it("starts with the short rest again once it has run for half a minute", async () => {
    const { worker, clock, pids, restarts } = supervised(STEADY);
    await worker.start();
    for (let n = 1; n <= 3; n++) {
      clock.advance(30_000);
      worker.kill();
      await eventually(() => restarts() === n);
      clock.advance(1_000);
      expect(pids).toHaveLength(n + 1);
      await eventually(isReady(worker));
    }
  });

  it("is started again when it cannot start the second time", async () => {
    const { worker, clock, restarts, refusals } = supervised(STEADY, 'failed("the name is taken")', STEADY);
    await worker.start();
    worker.kill();
    await eventually(() => restarts() === 1);
    clock.advance(1_000);
    await eventually(() => restarts() === 2);
    clock.advance(2_000);
    await eventually(isReady(worker));
    expect(refusals).toEqual([]);
  });

  it("is not started again when it ran and was refused", async () => {
    const { worker, clock, pids, refusals, restarts } = supervised(
      `told("joining", () => failed("the name is taken"))`,
    );
    await worker.start();
    await eventually(() => refusals.length === 1);
    expect(refusals).toEqual([{ code: "invalid", reason: "the name is taken" }]);
    clock.advance(60_000);
    expect([pids.length, restarts()]).toEqual([1, 0]);
  });

  it("is not ready once it said nothing for 5 s, and not alive after 30", async () => {
    const { worker, clock } = supervised(STEADY);
    await worker.start();
    clock.advance(4_999);
    expect(worker.readiness).toMatchObject({ ready: true });
    clock.advance(1);
    expect(worker.readiness).toMatchObject({ ready: false, phase: "silent" });
    expect(worker.alive).toBe(true);
    clock.advance(25_000);
    expect(worker.alive).toBe(false);
    worker.kill();
    await eventually(() => worker.alive);
  });

  it("is killed when it has not ended in time", async () => {
    const { worker, clock, errors, restarts } = supervised(`${STEADY.replace("process.exit(0)", "0")}`);
    await worker.start();
    const ended = worker.end("drain", 7_000);
    clock.advance(7_000);
    await ended;
    expect(errors).toEqual(["worker killed: it did not end in time"]);
    expect(restarts()).toBe(0);
  });

  it("stays away when it is ended while it rests", async () => {
    const { worker, clock, pids, restarts } = supervised(STEADY);
    await worker.start();
    worker.kill();
    await eventually(() => restarts() === 1);
    await worker.end("drain", 1_000);
    clock.advance(60_000);
    expect(pids).toHaveLength(1);
  });
});
