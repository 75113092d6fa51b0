/** Megabytes per second through two nodes, down and up, on one stream and on eight, beside the upstream alone and one plain hop. */
import { explain } from "./support/explain.ts";
import { wrk } from "./support/load.ts";
import { instant } from "./support/profile.ts";
import { type Contestant, inRounds, type Result, ratio } from "./support/rounds.ts";
import { atLeast, type Bench, type Finding, type Findings, row, size } from "./support/row.ts";
import { type Server, Stage } from "./support/stage.ts";
import { median } from "./support/statistics.ts";

const MB = 1_000_000;
const DOWN_BYTES = 64 * MB;
const UP_BYTES = 4 * MB;

export async function* bulk({ quick, profile, say }: Bench): Findings {
  await using stage = await Stage.start(profile);
  await stage.agent(1);
  const hop = await stage.server("plain-hop", [stage.upstream.address]);
  const from = instant();
  for (const one of profile ? CASES.slice(0, 1) : CASES) {
    const all = contestants(stage, hop, one).filter(({ name }) => !quick || name !== "direct");
    const results = await inRounds(all, quick ? 1 : profile ? 2 : 3, 2);
    const [direct, plain, ours] = ["direct", "plain hop", "routed"].map((name) => results.get(name));
    if (plain && ours) yield* findings(one, direct, plain, ours);
  }
  if (profile) await explain(stage, profile, { from, to: instant() }, say);
}

type Case = { readonly direction: "down" | "up"; readonly streams: number; readonly promised: number };

const CASES: readonly Case[] = [
  { direction: "down", streams: 1, promised: 300 },
  { direction: "down", streams: 8, promised: 300 },
  { direction: "up", streams: 1, promised: 250 },
  { direction: "up", streams: 8, promised: 250 },
];

function contestants(stage: Stage, hop: Server, { direction, streams }: Case): readonly Contestant[] {
  const path = direction === "down" ? `/bytes?n=${DOWN_BYTES}` : "/";
  const routed = stage.routed(path);
  const uploads = direction === "up" ? { upload: UP_BYTES } : {};
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

function* findings(one: Case, direct: Result | undefined, hop: Result, ours: Result): Generator<Finding> {
  const { direction, streams, promised } = one;
  const [plain, routed] = [hop, ours].map((result) => median(perSecond(direction, result)) / MB);
  const alone = direct && `, direct ${(median(perSecond(direction, direct)) / MB).toFixed(0)}`;
  const rate = routed ?? 0;
  const bytes = direction === "down" ? ours.bytes : ours.requests * UP_BYTES;
  const perMegabyte = [...ours.spent].map(([name, micros]) => [name, (micros * MB) / bytes] as const);
  yield row({
    name: `bulk ${direction}, ${streams} stream${streams > 1 ? "s" : ""}`,
    target: `≥ ${promised} MB/s`,
    measured: `${rate.toFixed(0)} MB/s; plain hop ${plain?.toFixed(0)}${alone ?? ""}`,
    ratio: `${ratio(perSecond(direction, ours), perSecond(direction, hop)).toFixed(2)} × plain hop`,
    cpu: `${perMegabyte.map(([name, micros]) => `${name} ${micros.toFixed(0)}`).join(", ")} per MB`,
    reached: atLeast(rate, promised),
  });
  if (streams === 1) return;
  for (const [name, micros] of perMegabyte) {
    if (name === "upstream") continue;
    const carries = `${(1e6 / micros).toFixed(0)} MB/s`;
    yield size(`one core of the ${name}, bulk ${direction}`, carries, `1 s ÷ ${micros.toFixed(0)} µs of CPU per MB`);
  }
}
