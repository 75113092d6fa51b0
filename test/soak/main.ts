/**
 * `npm run soak [-- --minutes N] [-- --write]`: idle exec, port-forward and watches through balancers that cut what is idle for
 * 60 s, at the default intervals, for two hours. Ends with 1 at the first session that ended or connection that was cut.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { writeBlock } from "../bench/support/write.ts";
import { rssBytes } from "../support/resident-memory.ts";
import { FULL_LENGTH, LongStreams } from "./long-streams.ts";

const { values } = parseArgs({
  options: { minutes: { type: "string", default: "120" }, write: { type: "boolean", default: false } },
});
const minutes = Number(values.minutes);
if (!(minutes > 0)) throw new Error(`--minutes wants a number above 0, not ${values.minutes}`);
const say = (line: string): void => void process.stdout.write(`${line}\n`);

const faults = await soak();
process.exit(faults.length > 0 ? 1 : 0);

async function soak(): Promise<readonly string[]> {
  await using long = await LongStreams.start(FULL_LENGTH);
  await long.work();
  const begun = performance.now();
  const passed = () => (performance.now() - begun) / 60_000;
  const before = memory(long);
  say(`open: ${long.sessions.map(({ name }) => name).join(", ")}; ${minutes} minutes; ${before}`);
  let told = 0;
  while (passed() < minutes && long.faults().length === 0) {
    await sleep(Math.min(5_000, Math.max(100, (minutes - passed()) * 60_000)));
    if (Math.floor(passed()) === told) continue;
    told = Math.floor(passed());
    say(
      `${told} min: ${long.sessions.length} sessions open, nothing cut but the control connection (${long.controlCut}); ${memory(long)}`,
    );
  }
  const found = [...long.faults()];
  if (passed() > 1.2 && !long.controlCut) found.push("the control connection was not cut: the balancers cut nothing");
  if (found.length === 0) await long.work().catch((error: Error) => void found.push(error.message));
  const result =
    found.length === 0
      ? `all ${long.sessions.length} sessions lived and worked at the end`
      : `failed: ${found.join("; ")}`;
  const text = `${passed().toFixed(1)} minutes: ${result}. Memory at the beginning: ${before}; at the end: ${memory(long)}.`;
  say(text);
  if (values.write) writeBlock("soak", `${new Date().toISOString().slice(0, 10)}, ${text}`);
  return found;
}

function memory({ cluster }: LongStreams): string {
  return [...cluster.nodes, ...cluster.agents]
    .map(({ name, child }) => `${name} ${(rssBytes(child.pid) / 2 ** 20).toFixed(0)} MiB`)
    .join(", ");
}
