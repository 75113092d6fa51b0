/** Bulk while the agent is 20 and 100 ms away: windows must carry it there. A proxy of ours (`delay-line.ts`) delays its link. */
import { once } from "node:events";
import { request } from "node:http";
import { atLeast, type Bench, type Findings, row } from "./support/row.ts";
import { Stage } from "./support/stage.ts";
import { median } from "./support/statistics.ts";

const MB = 1_000_000;
/** Largest credit of a stream, in MB: so much a round trip at most. */
const WINDOW = (4 * 1024 * 1024) / MB;
const BLOCK = Buffer.alloc(64 * 1024, "kas!");
/** The first ones find a small window; they are sent and not counted. */
const UNCOUNTED = 32 * MB;
const COUNTED = 96 * MB;

type Direction = "down" | "up";

export async function* delay({ quick }: Bench): Findings {
  await using stage = await Stage.start(null);
  const roundTrips = [0, 20, 100] as const;
  for (const [i, roundTrip] of roundTrips.entries()) {
    const line = await stage.server("delay-line", [stage.cluster.node(1).address("agent"), String(roundTrip)]);
    await stage.agentBehind(i + 1, line.address);
  }
  for (const direction of ["down", "up"] as const) {
    const rates: number[] = [];
    for (const [i] of roundTrips.entries()) rates.push(await throughput(stage, direction, i + 1, quick ? 1 : 2));
    const [near = 0, ...far] = rates;
    for (const [i, rate] of far.entries()) {
      const roundTrip = roundTrips[i + 1] ?? 0;
      const possible = (WINDOW * 1_000) / roundTrip;
      yield row({
        name: `bulk ${direction}, 1 stream, agent ${roundTrip} ms away (there and back)`,
        target: "≥ half of 4 MiB per round trip, or of what it carries undelayed",
        measured: `${rate.toFixed(0)} MB/s; 4 MiB per round trip ${possible.toFixed(0)}, undelayed ${near.toFixed(0)}`,
        ratio: `${(rate / near).toFixed(2)} × undelayed`,
        reached: atLeast(rate, 0.5 * Math.min(near, possible)),
      });
    }
  }
}

/** MB/s of one stream whose windows have grown. */
async function throughput(stage: Stage, direction: Direction, agent: number, rounds: number): Promise<number> {
  const rates: number[] = [];
  for (let i = 0; i < rounds; i++) rates.push(COUNTED / MB / (await seconds(stage, direction, agent)));
  return median(rates);
}

async function seconds(stage: Stage, direction: Direction, agent: number): Promise<number> {
  const down = direction === "down";
  const { url, headers } = stage.routed(down ? `/bytes?n=${UNCOUNTED + COUNTED}` : "/", agent);
  const call = request(url, { method: down ? "GET" : "PUT", headers, agent: false });
  let begun = 0;
  const moved = (bytes: number): void => {
    if (begun === 0 && bytes >= UNCOUNTED) begun = performance.now();
  };
  const answered = once(call, "response", { signal: AbortSignal.timeout(60_000) });
  if (down) call.end();
  else await upload(call, moved);
  const [answer] = await answered;
  if (answer.statusCode !== 200) throw new Error(`agent ${agent} answered ${answer.statusCode}`);
  let read = 0;
  for await (const chunk of answer) {
    read += chunk.length;
    if (down) moved(read);
  }
  return (performance.now() - begun) / 1_000;
}

async function upload(call: ReturnType<typeof request>, moved: (bytes: number) => void): Promise<void> {
  for (let sent = 0; sent < UNCOUNTED + COUNTED; sent += BLOCK.length) {
    if (!call.write(BLOCK)) await once(call, "drain");
    moved(sent);
  }
  call.end();
}
