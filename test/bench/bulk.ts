/** Megabytes per second through two nodes, down and up, on one stream and on eight, beside the upstream alone and one plain hop. */
import { writeFileSync } from "node:fs";
import { explain } from "./get.ts";
import { wrk } from "./support/load.ts";
import { instant } from "./support/profile.ts";
import { type Contestant, inRounds, type Result, ratio } from "./support/rounds.ts";
import { type Bench, type Row, row } from "./support/row.ts";
import { type Server, Stage } from "./support/stage.ts";
import { median } from "./support/statistics.ts";

const MB = 1_000_000;
const DOWN_BYTES = 64 * MB;
const UP_BYTES = 4 * MB;

export async function bulk({ quick, profile, say }: Bench): Promise<readonly Row[]> {
  await using stage = await Stage.start(profile);
  await stage.agent(1);
  const hop = await stage.server("plain-hop", [stage.upstream.address]);
  const script = stage.dir.file("put.lua");
  writeFileSync(script, `wrk.method = "PUT"\nwrk.body = string.rep("x", ${UP_BYTES})\n`);
  const rows: Row[] = [];
  const from = instant();
  for (const one of profile ? CASES.slice(0, 1) : CASES) {
    const results = await inRounds(contestants(stage, hop, script, one), quick ? 1 : 3, quick ? 2 : 4);
    const [direct, plain, ours] = ["direct", "plain hop", "routed"].map((name) => results.get(name));
    if (direct && plain && ours) rows.push(rowOf(one, direct, plain, ours));
  }
  if (profile) await explain(stage, profile, from, say);
  return rows;
}

type Case = { readonly direction: "down" | "up"; readonly streams: number; readonly promised: number };

const CASES: readonly Case[] = [
  { direction: "down", streams: 1, promised: 300 },
  { direction: "down", streams: 8, promised: 300 },
  { direction: "up", streams: 1, promised: 250 },
  { direction: "up", streams: 8, promised: 250 },
];

function contestants(stage: Stage, hop: Server, script: string, { direction, streams }: Case): readonly Contestant[] {
  const path = direction === "down" ? `/bytes?n=${DOWN_BYTES}` : "/";
  const routed = stage.routed(path);
  const uploads = direction === "up" ? { script } : {};
  const to =
    (url: string, headers = {}) =>
    (seconds: number) =>
      wrk({ url, headers, callers: streams, seconds, ...uploads });
  return [
    { name: "direct", watched: [], run: to(`http://${stage.upstream.address}${path}`) },
    { name: "plain hop", watched: [], run: to(`http://${hop.address}${path}`) },
    { name: "routed", watched: stage.watched(), run: to(routed.url, routed.headers) },
  ];
}

/** wrk counts what it reads, so uploads are counted by their requests. */
const perSecond = (direction: Case["direction"], { rates, throughput }: Result): readonly number[] =>
  direction === "down" ? throughput : rates.map((rate) => rate * UP_BYTES);

function rowOf({ direction, streams, promised }: Case, direct: Result, hop: Result, ours: Result): Row {
  const [alone, plain, routed] = [direct, hop, ours].map((result) => median(perSecond(direction, result)) / MB);
  const rate = routed ?? 0;
  const bytes = direction === "down" ? ours.bytes : ours.requests * UP_BYTES;
  const perMegabyte = [...ours.spent].map(([name, micros]) => `${name} ${((micros * MB) / bytes).toFixed(0)}`);
  return row({
    name: `bulk ${direction}, ${streams} stream${streams > 1 ? "s" : ""}`,
    target: `≥ ${promised} MB/s`,
    measured: `${rate.toFixed(0)} MB/s; plain hop ${plain?.toFixed(0)}, direct ${alone?.toFixed(0)}`,
    ratio: `${ratio(perSecond(direction, ours), perSecond(direction, hop)).toFixed(2)} × plain hop`,
    cpu: `${perMegabyte.join(", ")} per MB`,
    met: rate >= promised,
  });
}
