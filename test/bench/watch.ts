/** 200 watchers through two nodes, an event of 1 KiB each every 100 ms to all at once: how late it is, and what it costs. */
import { once } from "node:events";
import { get, type IncomingMessage } from "node:http";
import { createHistogram, type RecordableHistogram } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { type Bench, type Finding, type Findings, row, size } from "./support/row.ts";
import { Stage } from "./support/stage.ts";
import { millisAt } from "./support/statistics.ts";
import { during, type Watched } from "./support/usage.ts";

const WATCHERS = 200;
const EVERY = 100;
const EVENT = 1024;
const PATH = `/watch?every=${EVERY}`;

export async function* watch({ quick }: Bench): Findings {
  await using stage = await Stage.start(null);
  await stage.agent(1);
  const seconds = quick ? 2 : 6;
  const routed = stage.routed(PATH);
  const upstream = { name: "upstream", pid: stage.upstream.child.pid };
  const direct = { url: `http://${stage.upstream.address}${PATH}`, headers: {} };
  yield* findings("two nodes", await fanOut(routed, stage.watched(), seconds));
  yield* findings("direct", await fanOut(direct, [upstream], seconds));
}

type Target = { readonly url: string; readonly headers: Readonly<Record<string, string>> };
type FanOut = {
  readonly lateness: RecordableHistogram;
  readonly seconds: number;
  readonly cpu: ReadonlyMap<string, number>;
};

async function fanOut({ url, headers }: Target, watched: readonly Watched[], seconds: number): Promise<FanOut> {
  let lateness = createHistogram();
  const watchers = await Promise.all(
    Array.from({ length: WATCHERS }, async () => {
      const [answer]: IncomingMessage[] = await once(get(url, { headers, agent: false }), "response");
      if (answer?.statusCode !== 200) throw new Error(`${url} answered ${answer?.statusCode}`);
      listen(answer, (micros) => lateness.record(Math.max(1, micros)));
      return answer;
    }),
  );
  await sleep(1_000);
  lateness = createHistogram();
  const { cpu } = await during(watched, () => sleep(seconds * 1_000));
  const found = { lateness, seconds, cpu };
  for (const watcher of watchers) watcher.destroy();
  await sleep(200);
  if (found.lateness.count < 0.5 * WATCHERS * ((seconds * 1_000) / EVERY)) {
    throw new Error(`only ${found.lateness.count} events came in ${seconds} s`);
  }
  return found;
}

/** Calls `late` for every event that begins in what comes, with how long ago it was made. */
function listen(answer: IncomingMessage, late: (micros: number) => void): void {
  let rest = "";
  answer.on("error", () => {});
  answer.setEncoding("latin1").on("data", (text: string) => {
    rest += text;
    while (rest.length >= EVENT) {
      late(Number(process.hrtime.bigint() / 1000n) - Number.parseInt(rest, 10));
      rest = rest.slice(EVENT);
    }
  });
}

function* findings(name: string, { lateness, seconds, cpu }: FanOut): Generator<Finding> {
  const events = lateness.count;
  const each = [...cpu].map(([process, micros]) => `${process} ${(micros / events).toFixed(0)}`);
  yield row({
    name: `watch fan-out, ${WATCHERS} watchers × ${1_000 / EVERY} events/s of 1 KiB, ${name}`,
    measured: `${(events / seconds).toFixed(0)} events/s, late by p50 ${millisAt(lateness, 0.5).toFixed(1)} ms, p99 ${millisAt(lateness, 0.99).toFixed(1)} ms`,
    cpu: `${each.join(", ")} per event`,
  });
  const [[process, micros] = ["", Number.NaN]] = cpu;
  if (name === "direct") return;
  yield size(
    `one core of the ${process}, watch events of 1 KiB`,
    `${((events * 1e6) / micros).toFixed(0)} events/s`,
    `1 s ÷ ${(micros / events).toFixed(0)} µs of CPU`,
  );
}
