/**
 * A routed GET of 1 KiB by the HTTP proxy, through two nodes and through one, beside the upstream alone, one plain hop before
 * it, and three, which are as many processes as a request through two nodes meets.
 */
import { mkdirSync } from "node:fs";
import { explain } from "./support/explain.ts";
import { type Load, wrk } from "./support/load.ts";
import { instant } from "./support/profile.ts";
import { type Contestant, cpuText, inRounds, type Result, rateText, ratio, rssText, warmUp } from "./support/rounds.ts";
import { atLeast, atMost, type Bench, type Finding, type Findings, row, size } from "./support/row.ts";
import { type Server, Stage } from "./support/stage.ts";

export async function* get(bench: Bench): Findings {
  const { quick, profile, say } = bench;
  if (profile) mkdirSync(profile, { recursive: true });
  const full = !quick && !profile;
  await using stage = await Stage.start(profile);
  await stage.agent(1);
  if (full) await stage.agent(2, 0);
  const hop = await stage.server("plain-hop", [stage.upstream.address]);
  const second = await stage.server("plain-hop", [hop.address]);
  const third = await stage.server("plain-hop", [second.address]);
  const chosen = (callers: number) =>
    contestants(stage, [hop, second, third], callers).filter(({ name }) => full || isInShort(name, callers));
  await warmUp(chosen(32));
  for (const callers of levels(bench)) {
    const from = instant();
    const [rounds, seconds] = profile ? [2, 3] : quick ? [3, 1] : callers === 32 ? [4, 3] : [3, 2];
    const results = await inRounds(chosen(callers), rounds, seconds);
    yield* findings(callers, results);
    if (profile) await explain(stage, profile, { from, to: instant() }, say);
  }
}

function levels({ quick, profile, callers }: Bench): readonly number[] {
  if (profile) return [32];
  return callers ?? (quick ? [1, 32] : [1, 32, 256]);
}

/** What has a target, and the fairest comparison. */
const isInShort = (name: string, callers: number): boolean => name !== NEAR && (name !== THREE || callers === 32);

const [DIRECT, PLAIN, THREE, NEAR, FAR] = ["direct", "plain hop", "3 plain hops", "one node", "two nodes"] as const;

function contestants(stage: Stage, hops: readonly Server[], callers: number): readonly Contestant[] {
  const upstream = { name: "upstream", pid: stage.upstream.child.pid };
  const [first, , last] = hops;
  const at =
    (url: string, headers?: Readonly<Record<string, string>>) =>
    (seconds: number): Promise<Load> =>
      wrk({ url, callers, seconds, ...(headers && { headers }) });
  const [far, near] = [stage.routed("/"), stage.routed("/", 2)];
  const watched = (servers: readonly (Server | undefined)[]) => [
    ...servers.flatMap((server, i) => (server ? [{ name: `hop ${i + 1}`, pid: server.child.pid }] : [])),
    upstream,
  ];
  return [
    { name: DIRECT, watched: [upstream], run: at(`http://${stage.upstream.address}/`) },
    { name: PLAIN, watched: watched([first]), run: at(`http://${first?.address}/`) },
    { name: THREE, watched: watched(hops), run: at(`http://${last?.address}/`) },
    { name: NEAR, watched: stage.watchedNear(), run: at(near.url, near.headers) },
    { name: FAR, watched: stage.watched(), run: at(far.url, far.headers) },
  ];
}

function* findings(callers: number, results: ReadonlyMap<string, Result>): Generator<Finding> {
  const [direct, hop] = [results.get(DIRECT), results.get(PLAIN)];
  if (!direct || !hop) return;
  const group = `GET 1 KiB, ${callers} caller${callers > 1 ? "s" : ""}`;
  for (const result of [...results.values()].toReversed()) {
    yield compared(group, callers, result, direct, hop);
    yield { type: "curve", curve: { group, name: result.name, latency: result.latency } };
    if (isRouted(result) && callers === 32) yield* sizes(result);
  }
}

const isRouted = ({ name }: Result): boolean => name === FAR || name === NEAR;

function compared(group: string, callers: number, result: Result, direct: Result, hop: Result): Finding {
  const share = ratio(result.rates, hop.rates);
  const [p50, p99] = [result.p50 - direct.p50, result.p99 - direct.p99];
  const added = isRouted(result) && callers === 1 ? `; added p50 ${p50.toFixed(2)}, p99 ${p99.toFixed(2)} ms` : "";
  return row({
    name: `${group}, ${result.name}`,
    measured: rateText(result) + added,
    ratio: result === hop ? "" : `${share.toFixed(2)} × plain hop`,
    cpu: cpuText(result),
    rss: isRouted(result) ? rssText(result) : "",
    ...(result.name === FAR ? promised(callers, share, p50, p99) : {}),
  });
}

function promised(callers: number, share: number, p50: number, p99: number) {
  if (callers === 32) return { target: "≥ 0.6 × plain hop", reached: atLeast(share, 0.6) };
  if (callers > 1) return {};
  return { target: "added p50 ≤ 0.45 ms, p99 ≤ 3 ms", reached: Math.min(atMost(p50, 0.45), atMost(p99, 3)) };
}

function* sizes({ name, cpu }: Result) {
  for (const [process, micros] of cpu) {
    if (process === "upstream") continue;
    const each = `${(1e6 / micros).toFixed(0)} requests/s`;
    yield size(`one core of the ${process}, GET 1 KiB, ${name}`, each, `1 s ÷ ${micros.toFixed(0)} µs of CPU`);
  }
}
