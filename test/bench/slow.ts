/**
 * One answer of 1 GiB to a reader that takes 1 MB a second for a minute and then all it can: the most memory that each process
 * needed meanwhile, above what it had after a whole such answer at full speed. A quick run takes a tenth of the time.
 */
import { once } from "node:events";
import { get, type IncomingMessage } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { peakRssBytes, resetPeakRss, rssBytes } from "../support/resident-memory.ts";
import { atMost, type Bench, type Findings, row } from "./support/row.ts";
import { Stage } from "./support/stage.ts";

const GIB = 2 ** 30;
const MIB = 2 ** 20;
const RATE = 1_000_000;
const TICK = 50;
const PROMISED = 32;

export async function* slow({ quick }: Bench): Findings {
  await using stage = await Stage.start(null);
  await stage.agent(1);
  const [bytes, seconds] = quick ? [GIB / 4, 6] : [GIB, 60];
  const path = `/bytes?n=${bytes}`;
  for (let i = 0; i < 2; i++) await readAll(stage, path, 0);
  await sleep(2_000);
  const processes = stage.watched().filter(({ name }) => name !== "upstream");
  const base = processes.map(({ pid }) => rssBytes(pid));
  for (const { pid } of processes) resetPeakRss(pid);
  await readAll(stage, path, seconds);
  const grown = processes.map(({ pid }, i) => (peakRssBytes(pid) - (base[i] ?? 0)) / MIB);
  const scale = quick ? `; scaled: a tenth of the time (${seconds} s), a quarter of the bytes` : "";
  yield row({
    name: `1 GiB answer, reader at 1 MB/s for 60 s, then full speed`,
    target: `peak RSS ≤ ${PROMISED} MiB above a warmed-up base on every process`,
    measured: processes.map(({ name }, i) => `${name} ${grown[i]?.toFixed(0)} MiB`).join(", ") + scale,
    rss: processes.map(({ name }, i) => `${name} ${((base[i] ?? 0) / MIB).toFixed(0)} MiB`).join(", "),
    reached: atMost(Math.max(...grown), PROMISED),
  });
}

/** Reads one answer to its end, for `slowly` seconds no faster than RATE. */
async function readAll(stage: Stage, path: string, slowly: number): Promise<void> {
  const { url, headers } = stage.routed(path);
  const call = get(url, { headers, agent: false });
  const [answer]: IncomingMessage[] = await once(call, "response");
  if (answer?.statusCode !== 200) throw new Error(`${path} was answered with ${answer?.statusCode}`);
  const begun = performance.now();
  let read = 0;
  while (performance.now() - begun < slowly * 1_000) {
    const due = ((performance.now() - begun) / 1_000) * RATE;
    while (read < due) {
      const chunk: Buffer | null = answer.read();
      if (!chunk) break;
      read += chunk.length;
    }
    await sleep(TICK);
  }
  for await (const chunk of answer) read += chunk.length;
  const length = Number(answer.headers["content-length"]);
  if (read !== length) throw new Error(`${read} of ${length} bytes came`);
}
