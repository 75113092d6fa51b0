/** Megabytes per second through two nodes, down and up, on one stream and on eight, beside the upstream alone and one plain hop. */
import { writeFileSync } from "node:fs";
import { wrk } from "./support/load.ts";
import { type Contestant, inRounds, type Result, ratio } from "./support/rounds.ts";
import { type Bench, type Row, row } from "./support/row.ts";
import { Stage } from "./support/stage.ts";
import { median } from "./support/statistics.ts";

const MB = 1_000_000;
const DOWN_BYTES = 64 * MB;
const UP_BYTES = 16 * MB;

export async function bulk({ quick }: Bench): Promise<readonly Row[]> {
  await using stage = await Stage.start(null);
  await stage.agent(1);
  const hop = await stage.server("plain-hop", [stage.upstream.address]);
  const script = stage.dir.file("put.lua");
  writeFileSync(script, `wrk.method = "PUT"\nwrk.body = string.rep("x", ${UP_BYTES})\n`);
  const rows: Row[] = [];
  for (const [direction, promised] of [
    ["down", 300],
    ["up", 250],
  ] as const) {
    for (const streams of [1, 8]) {
      const path = direction === "down" ? `/bytes?n=${DOWN_BYTES}` : "/";
      const routed = stage.routed(path);
      const to =
        (url: string, headers = {}) =>
        (seconds: number) =>
          wrk({ url, headers, callers: streams, seconds, ...(direction === "up" && { script }) });
      const all: readonly Contestant[] = [
        { name: "direct", watched: [], run: to(`http://${stage.upstream.address}${path}`) },
        { name: "plain hop", watched: [], run: to(`http://${hop.address}${path}`) },
        { name: "routed", watched: stage.watched(), run: to(routed.url, routed.headers) },
      ];
      const results = await inRounds(all, quick ? 2 : 3, quick ? 2 : 4);
      const [direct, plain, ours] = ["direct", "plain hop", "routed"].map((name) => results.get(name));
      if (direct && plain && ours) rows.push(rowOf({ direction, streams, promised }, direct, plain, ours));
    }
  }
  return rows;
}

type Case = { readonly direction: "down" | "up"; readonly streams: number; readonly promised: number };

/** wrk counts what it reads, so uploads are counted by their requests. */
const perSecond = (direction: Case["direction"], { rates, throughput }: Result): readonly number[] =>
  direction === "down" ? throughput : rates.map((rate) => rate * UP_BYTES);

function rowOf({ direction, streams, promised }: Case, direct: Result, hop: Result, ours: Result): Row {
  const [a, b, c] = [direct, hop, ours].map((result) => perSecond(direction, result)) as [number[], number[], number[]];
  const rate = median(c) / MB;
  const bytes = direction === "down" ? DOWN_BYTES : UP_BYTES;
  return row({
    name: `bulk ${direction}, ${streams} stream${streams > 1 ? "s" : ""}`,
    target: `≥ ${promised} MB/s`,
    measured: `${rate.toFixed(0)} MB/s; plain hop ${(median(b) / MB).toFixed(0)}, direct ${(median(a) / MB).toFixed(0)}`,
    ratio: `${ratio(c, b).toFixed(2)} × plain hop`,
    cpu: [...ours.cpu]
      .map(([name, micros]) => `${name} ${((micros / bytes) * MB).toFixed(0)}`)
      .join(", ")
      .concat(" per MB"),
    met: rate >= promised,
  });
}
