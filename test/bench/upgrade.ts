/**
 * Upgraded connections as exec has them, echoed by the upstream: the round trip of a keystroke alone, of 32 sessions at once,
 * and megabytes there and back. Through two nodes and direct, in turns.
 */
import { once } from "node:events";
import { createHistogram } from "node:perf_hooks";
import type { Duplex } from "node:stream";
import { upgrade as open } from "../e2e/support/http.ts";
import { type Load, SHARES } from "./support/load.ts";
import { type Contestant, cpuText, inRounds, type Result, ratio } from "./support/rounds.ts";
import { type Bench, type Finding, type Findings, row, size } from "./support/row.ts";
import { Stage } from "./support/stage.ts";
import { median, millisAt } from "./support/statistics.ts";
import type { Watched } from "./support/usage.ts";

const KEYSTROKE = 64;
const BLOCK = Buffer.alloc(64 * 1024, "k");
const MB = 1_000_000;
/** Written and not yet echoed, of the megabytes. */
const MAX_UNDER_WAY = 8 * MB;
const CASES = [
  { name: "1 session, 64 B echoed", sessions: 1, bulk: false },
  { name: "32 sessions, 64 B echoed", sessions: 32, bulk: false },
  { name: "1 session, megabytes echoed", sessions: 1, bulk: true },
] as const;
type Case = (typeof CASES)[number];

export async function* upgrade({ quick }: Bench): Findings {
  await using stage = await Stage.start(null);
  await stage.agent(1);
  const direct = { url: `http://${stage.upstream.address}/`, headers: {} };
  for (const one of CASES) {
    const contestants: readonly Contestant[] = [
      contestant("direct", [], direct, one),
      contestant("two nodes", stage.watched(), stage.routed("/"), one),
    ];
    const results = await inRounds(contestants, quick ? 1 : 2, quick ? 1 : 2);
    const [alone, ours] = [results.get("direct"), results.get("two nodes")];
    if (alone && ours) yield* findings(one, alone, ours);
  }
}

type Target = { readonly url: string; readonly headers: Readonly<Record<string, string>> };

const contestant = (name: string, watched: readonly Watched[], target: Target, one: Case): Contestant => ({
  name,
  watched,
  run: async (seconds) => {
    const sockets = await Promise.all(Array.from({ length: one.sessions }, () => opened(target)));
    const load = one.bulk ? await megabytes(sockets, seconds) : await keystrokes(sockets, seconds);
    for (const socket of sockets) socket.destroy();
    return load;
  },
});

async function opened({ url, headers }: Target): Promise<Duplex> {
  const got = await open(url, { headers });
  if (!("socket" in got)) throw new Error(`${url} answered ${got.answer.statusCode} to an upgrade`);
  got.socket.on("error", () => {});
  return got.socket;
}

/** Each session sends the next when the last came back. */
async function keystrokes(sockets: readonly Duplex[], seconds: number): Promise<Load> {
  const times = createHistogram();
  const key = Buffer.alloc(KEYSTROKE, "k");
  const begun = performance.now();
  const end = begun + seconds * 1_000;
  const type = async (socket: Duplex): Promise<void> => {
    while (performance.now() < end) {
      const pressed = performance.now();
      socket.write(key);
      for (let back = 0; back < KEYSTROKE; ) back += (await next(socket)).length;
      times.record(Math.max(1, Math.round((performance.now() - pressed) * 1_000)));
    }
  };
  await Promise.all(sockets.map(type));
  return {
    requests: times.count,
    seconds: (performance.now() - begun) / 1_000,
    p50: millisAt(times, 0.5),
    p99: millisAt(times, 0.99),
    latency: SHARES.map((share) => millisAt(times, share)),
    bytes: times.count * KEYSTROKE,
  };
}

async function next(socket: Duplex): Promise<Buffer> {
  const chunk: Buffer | null = socket.read();
  if (chunk) return chunk;
  await once(socket, "readable", { signal: AbortSignal.timeout(20_000) });
  return socket.read() ?? Buffer.alloc(0);
}

async function megabytes(sockets: readonly Duplex[], seconds: number): Promise<Load> {
  const begun = performance.now();
  const end = begun + seconds * 1_000;
  const back = await Promise.all(sockets.map((socket) => pump(socket, end)));
  const bytes = back.reduce((sum, one) => sum + one, 0);
  const none = { p50: Number.NaN, p99: Number.NaN, latency: SHARES.map(() => Number.NaN) };
  return { requests: bytes / MB, seconds: (performance.now() - begun) / 1_000, bytes, ...none };
}

/** Bytes that came back by `end`. */
async function pump(socket: Duplex, end: number): Promise<number> {
  let [sent, back] = [0, 0];
  while (performance.now() < end) {
    while (sent - back < MAX_UNDER_WAY && socket.write(BLOCK)) sent += BLOCK.length;
    back += (await next(socket)).length;
  }
  return back;
}

function* findings(one: Case, alone: Result, ours: Result): Generator<Finding> {
  const share = `${ratio(ours.rates, alone.rates).toFixed(2)} × direct`;
  const [rate, other] = [median(ours.rates), median(alone.rates)];
  const name = `upgrade (exec-like), ${one.name}, two nodes`;
  if (one.bulk) {
    const measured = `${rate.toFixed(0)} MB/s there and back; direct ${other.toFixed(0)}`;
    yield row({ name, measured, ratio: share, cpu: `${cpuText(ours)} per MB` });
    const [[process, micros] = ["", Number.NaN]] = ours.cpu;
    yield size(
      `one core of the ${process}, upgraded bytes echoed`,
      `${(1e6 / micros).toFixed(0)} MB/s`,
      `1 s ÷ ${micros.toFixed(0)} µs of CPU per MB`,
    );
    return;
  }
  const text = ({ p50, p99 }: Result) => `p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms`;
  const measured = `${rate.toFixed(0)} round trips/s, ${text(ours)}; direct ${other.toFixed(0)}/s, ${text(alone)}`;
  yield row({ name, measured, ratio: share, cpu: cpuText(ours) });
}
