/**
 * A victim's tail beside 20 callers of the same agent that read nothing of 300 MB each, and beside 20 that read all they can
 * of another agent of the same two nodes. Rounds with and without them alternate.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { h2load, wrk } from "./support/load.ts";
import { type Bench, type Row, row } from "./support/row.ts";
import { Stage } from "./support/stage.ts";
import { median } from "./support/statistics.ts";
import { rssBytes } from "./support/usage.ts";

const OTHERS = 20;
const PATH = `/bytes?n=${300_000_000}`;
const MIB = 1024 * 1024;

export async function stalled({ quick }: Bench): Promise<readonly Row[]> {
  await using stage = await Stage.start(null);
  await stage.agent(1);
  await stage.agent(2);
  const rounds = quick ? 3 : 10;
  const victim = () => round(stage, quick ? 300 : 1_000);
  await victim();
  return [await besideStalled(stage, rounds, victim), await besideReading(stage, rounds, victim)];
}

/** The p99 of so many requests of one caller, ms. One that fails ends the benchmark. */
async function round(stage: Stage, requests: number): Promise<number> {
  const { url, headers } = stage.routed("/");
  const log = stage.dir.file("victim.log");
  return (await h2load({ url, headers, connections: 1, streams: 1, requests, http1: true, log })).p99;
}

async function besideStalled(stage: Stage, rounds: number, victim: () => Promise<number>): Promise<Row> {
  const [without, beside]: [number[], number[]] = [[], []];
  const grown: number[] = [];
  for (let i = 0; i < rounds; i++) {
    without.push(await victim());
    const before = stage.cluster.nodes.map(({ child }) => rssBytes(child.pid));
    const sockets = await stall(stage);
    const after = stage.cluster.nodes.map(({ child }) => rssBytes(child.pid));
    grown.push(Math.max(...after.map((bytes, node) => bytes - (before[node] ?? 0))) / OTHERS / MIB);
    beside.push(await victim());
    for (const socket of sockets) socket.destroy();
    await sleep(300);
  }
  const [base, p99, memory] = [median(without), median(beside), grown[0] ?? 0];
  return row({
    name: `victim beside ${OTHERS} stalled readers of 300 MB, same agent`,
    target: "p99 ≤ 1.2 × alone + 1 ms, ≤ 1 MiB RSS per stalled stream and node",
    measured: `p99 ${p99.toFixed(2)} ms, alone ${base.toFixed(2)} ms`,
    ratio: `${median(beside.map((value, i) => value / (without[i] ?? value))).toFixed(2)} × alone`,
    rss: `${memory.toFixed(2)} MiB per stalled stream (the first round, on the node that grew more)`,
    met: p99 <= 1.2 * base + 1 && memory <= 1,
  });
}

async function besideReading(stage: Stage, rounds: number, victim: () => Promise<number>): Promise<Row> {
  const [without, beside]: [number[], number[]] = [[], []];
  const other = stage.routed(PATH, 2);
  for (let i = 0; i < rounds; i++) {
    without.push(await victim());
    const enough = new AbortController();
    const reading = wrk({ ...other, callers: OTHERS, seconds: 120, signal: enough.signal }).catch((error: Error) => {
      if (error.name !== "AbortError") throw error;
    });
    await sleep(500);
    beside.push(await victim());
    enough.abort();
    await reading;
  }
  const [base, p99] = [median(without), median(beside)];
  return row({
    name: `victim beside ${OTHERS} readers at full speed, another agent`,
    target: "p99 ≤ 2 × alone",
    measured: `p99 ${p99.toFixed(2)} ms, alone ${base.toFixed(2)} ms`,
    ratio: `${(p99 / base).toFixed(2)} × alone`,
    met: p99 <= 2 * base,
  });
}

/** Callers that ask for much, take the head and no more. */
async function stall(stage: Stage): Promise<readonly Socket[]> {
  const { url, headers } = stage.routed(PATH);
  const { hostname, port, pathname, search } = new URL(url);
  const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const sockets = await Promise.all(
    Array.from({ length: OTHERS }, async () => {
      const socket = connect({ port: Number(port), host: hostname });
      socket.on("error", () => {});
      socket.write(`GET ${pathname}${search} HTTP/1.1\r\nhost: ${hostname}\r\n${head.join("")}\r\n`);
      await once(socket, "readable");
      return socket;
    }),
  );
  await sleep(1_000);
  return sockets;
}
