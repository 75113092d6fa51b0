/**
 * A victim's tail beside 20 callers (and beside 1) of the same agent that read nothing of 300 MB each, and beside 20 that read
 * all they can of another agent of the same two nodes. Rounds with and without them alternate.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { rssBytes } from "../support/resident-memory.ts";
import { h2load, wrk } from "./support/load.ts";
import { atMost, type Bench, type Findings, row, size } from "./support/row.ts";
import { Stage } from "./support/stage.ts";
import { median } from "./support/statistics.ts";

const MANY = 20;
const PATH = `/bytes?n=${300_000_000}`;
const MIB = 1024 * 1024;

export async function* stalled({ quick }: Bench): Findings {
  await using stage = await Stage.start(null);
  await stage.agent(1);
  await stage.agent(2);
  const rounds = quick ? 3 : 10;
  const requests = quick ? 300 : 1_000;
  const victim = () => round(stage, requests, stage.routed("/"));
  await victim();
  yield* besideStalled(stage, MANY, rounds, victim);
  yield* besideReading(stage, quick, rounds, requests);
  yield* besideStalled(stage, 1, quick ? 1 : 3, victim);
}

/** The p99 of so many requests of one caller, ms. One that fails ends the benchmark. */
async function round(stage: Stage, requests: number, { url, headers }: Asked): Promise<number> {
  const log = stage.dir.file("victim.log");
  return (await h2load({ url, headers, connections: 1, streams: 1, requests, http1: true, log })).p99;
}

async function* besideStalled(stage: Stage, count: number, rounds: number, victim: () => Promise<number>): Findings {
  const [without, beside]: [number[], number[]] = [[], []];
  const grown: number[] = [];
  for (let i = 0; i < rounds; i++) {
    without.push(await victim());
    const before = stage.cluster.nodes.map(({ child }) => rssBytes(child.pid));
    const sockets = await stall(stage, count);
    const after = stage.cluster.nodes.map(({ child }) => rssBytes(child.pid));
    grown.push(Math.max(...after.map((bytes, node) => bytes - (before[node] ?? 0))) / count / MIB);
    beside.push(await victim());
    for (const socket of sockets) socket.destroy();
    await sleep(300);
  }
  const [base, p99, memory] = [median(without), median(beside), grown[0] ?? 0];
  const many = count > 1;
  const tail = atMost(p99, 1.2 * base + 1);
  yield row({
    name: `victim beside ${count} stalled reader${many ? "s" : ""} of 300 MB, same agent`,
    target: `p99 ≤ 1.2 × alone + 1 ms${many ? ", ≤ 1 MiB RSS per stalled stream and node" : ""}`,
    measured: `p99 ${p99.toFixed(2)} ms, alone ${base.toFixed(2)} ms; ${rounds} round${rounds > 1 ? "s" : ""}`,
    ratio: `${median(beside.map((value, i) => value / (without[i] ?? value))).toFixed(2)} × alone`,
    rss: many ? `${memory.toFixed(2)} MiB per stalled stream (the first round, on the node that grew more)` : "",
    reached: many ? Math.min(tail, atMost(memory, 1)) : tail,
  });
  if (many)
    yield size("a stalled stream, on the node that grew more", `${memory.toFixed(2)} MiB`, "RSS with and without 20");
}

async function* besideReading(stage: Stage, quick: boolean, rounds: number, requests: number): Findings {
  const name = `victim beside ${MANY} readers at full speed`;
  const ours = await beside(stage, rounds, requests, stage.routed("/"), stage.routed(PATH, 2));
  yield row({
    name: `${name}, another agent`,
    target: "p99 ≤ 2 × alone",
    ...ours.texts,
    reached: atMost(ours.p99, 2 * ours.alone),
  });
  if (quick) return;
  const hop = await stage.server("plain-hop", [stage.upstream.address]);
  const at = (path: string): Asked => ({ url: `http://${hop.address}${path}`, headers: {} });
  yield row({ name: `${name}, one plain hop`, ...(await beside(stage, rounds, requests, at("/"), at(PATH))).texts });
}

type Asked = { readonly url: string; readonly headers: Readonly<Record<string, string>> };

async function beside(stage: Stage, rounds: number, requests: number, victim: Asked, readers: Asked) {
  const [without, busy]: [number[], number[]] = [[], []];
  for (let i = 0; i < rounds; i++) {
    without.push(await round(stage, requests, victim));
    const enough = new AbortController();
    const reading = wrk({ ...readers, callers: MANY, seconds: 120, signal: enough.signal }).catch((error: Error) => {
      if (error.name !== "AbortError") throw error;
    });
    await sleep(500);
    busy.push(await round(stage, requests, victim));
    enough.abort();
    await reading;
  }
  const [alone, p99] = [median(without), median(busy)];
  const measured = `p99 ${p99.toFixed(2)} ms, alone ${alone.toFixed(2)} ms; ${rounds} round${rounds > 1 ? "s" : ""}`;
  return { alone, p99, texts: { measured, ratio: `${(p99 / alone).toFixed(2)} × alone` } };
}

/** Callers that ask for much, take the head and no more. */
async function stall(stage: Stage, count: number): Promise<readonly Socket[]> {
  const { url, headers } = stage.routed(PATH);
  const { hostname, port, pathname, search } = new URL(url);
  const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const sockets = await Promise.all(
    Array.from({ length: count }, async () => {
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
