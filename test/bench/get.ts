/** A routed GET of 1 KiB through two nodes by the HTTP proxy, beside the upstream alone and one plain hop before it. */
import { mkdirSync } from "node:fs";
import { type Load, wrk } from "./support/load.ts";
import { instant, readProfile, selfTimes } from "./support/profile.ts";
import { type Contestant, cpuText, inRounds, type Result, ratio, rssText } from "./support/rounds.ts";
import { type Bench, type Row, row } from "./support/row.ts";
import { type Server, Stage } from "./support/stage.ts";
import { median } from "./support/statistics.ts";

export async function get(bench: Bench): Promise<readonly Row[]> {
  const { quick, profile, say } = bench;
  if (profile) mkdirSync(profile, { recursive: true });
  await using stage = await Stage.start(profile);
  await stage.agent(1);
  const hop = await stage.server("plain-hop", [stage.upstream.address]);
  const rows: Row[] = [];
  for (const callers of levels(bench)) {
    const from = instant();
    const results = await inRounds(contestants(stage, hop, callers), rounds(quick, callers), quick || profile ? 2 : 4);
    const [direct, plain, ours] = ["direct", "plain hop", "routed"].map((name) => results.get(name));
    if (!direct || !plain || !ours) continue;
    rows.push(...rowsOf(callers, direct, plain, ours));
    if (profile) await explain(stage, profile, from, say);
  }
  return rows;
}

function levels({ quick, profile, callers }: Bench): readonly number[] {
  if (profile) return [32];
  return callers ?? (quick ? [1, 32] : [1, 32, 256]);
}

const rounds = (quick: boolean, callers: number): number => (quick ? 2 : callers === 32 ? 7 : 3);

function contestants(stage: Stage, hop: Server, callers: number): readonly Contestant[] {
  const upstream = { name: "upstream", pid: stage.upstream.child.pid };
  const at =
    (url: string, headers?: Readonly<Record<string, string>>) =>
    (seconds: number): Promise<Load> =>
      wrk({ url, callers, seconds, ...(headers && { headers }) });
  const routed = stage.routed("/");
  return [
    { name: "direct", watched: [upstream], run: at(`http://${stage.upstream.address}/`) },
    { name: "plain hop", watched: [{ name: "hop", pid: hop.child.pid }, upstream], run: at(`http://${hop.address}/`) },
    { name: "routed", watched: stage.watched(), run: at(routed.url, routed.headers) },
  ];
}

const text = ({ rates, p50, p99 }: Result): string =>
  `${median(rates).toFixed(0)}/s, p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms`;

function rowsOf(callers: number, direct: Result, hop: Result, ours: Result): readonly Row[] {
  const share = ratio(ours.rates, hop.rates);
  const [p50, p99] = [ours.p50 - direct.p50, ours.p99 - direct.p99];
  const name = `GET 1 KiB, ${callers} callers`;
  const promised =
    callers === 32
      ? { target: "≥ 0.6 × plain hop", met: share >= 0.6 }
      : callers === 1
        ? { target: "added p50 ≤ 0.45 ms, p99 ≤ 3 ms", met: p50 <= 0.45 && p99 <= 3 }
        : {};
  return [
    row({
      name: `${name}, routed`,
      measured: callers === 1 ? `${text(ours)}; added p50 ${p50.toFixed(2)}, p99 ${p99.toFixed(2)} ms` : text(ours),
      ratio: `${share.toFixed(2)} × plain hop`,
      cpu: cpuText(ours),
      rss: rssText(ours),
      ...promised,
    }),
    row({ name: `${name}, plain hop`, measured: text(hop), cpu: cpuText(hop) }),
    row({ name: `${name}, direct`, measured: text(direct), cpu: cpuText(direct) }),
  ];
}

/** Where each process's time went. */
export async function explain(stage: Stage, profile: string, from: number, say: (line: string) => void): Promise<void> {
  const window = { from, to: instant() };
  const watched = stage.watched();
  await stage.finish();
  for (const { name, pid } of watched) {
    const found = readProfile(profile, pid);
    if (!found) continue;
    const times = selfTimes(found, window);
    const total = times.reduce((sum, [, micros]) => sum + micros, 0);
    say(`\n${name}: self time, % of ${(total / 1e6).toFixed(1)} s`);
    for (const [where, micros] of times.slice(0, 45))
      say(`${((100 * micros) / total).toFixed(1).padStart(6)}  ${where}`);
  }
}
