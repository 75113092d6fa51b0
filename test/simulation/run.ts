/**
 * `npm run sim -- --seeds N [--seed S] [--trace] [--frames] [--first]`: runs seeds S … S+N-1 and prints the failing ones;
 * with `--first` it stops at the first, with `--frames` every frame is traced too. The last line sums up. Exit code 1 when an invariant was violated.
 */
import { parseArgs } from "node:util";
import { type Run, simulateSeed } from "./simulate.ts";

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "1" },
    seed: { type: "string", default: "1" },
    trace: { type: "boolean" },
    frames: { type: "boolean" },
    first: { type: "boolean" },
  },
});
const first = Number(values.seed);
const count = Number(values.seeds);
const outcomes = new Map<string, number>();
let seeds = 0;
let requests = 0;
let violations = 0;
let executions = 0;
let bytes = 0;
const frames = values.frames === true;
const tracing = values.trace || frames ? { line: (line: string) => console.log(line), frames } : null;

const PROGRESS_EVERY = 100;

function add(run: Run): void {
  seeds++;
  requests += run.requests;
  violations += run.violations.length;
  executions += run.executions;
  bytes += run.bytes;
  for (const [outcome, n] of run.outcomes) outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + n);
  if (seeds % PROGRESS_EVERY === 0)
    console.error(`${seeds} of ${count} seeds, ${requests} requests, ${violations} violations`);
  if (2 * (run.outcomes.get("done") ?? 0) <= run.requests) {
    violations++;
    console.log(`seed ${run.seed}: fewer than half of its ${run.requests} requests were served`);
  }
  if (run.violations.length === 0) return;
  console.log(`seed ${run.seed}: ${run.violations.length} violations`);
  for (const violation of run.violations.slice(0, 5)) console.log(`  ${violation}`);
}

for (let seed = first; seed < first + count && !(values.first && violations > 0); seed++) {
  add(await simulateSeed(seed, tracing));
}
console.log([...outcomes].map(([outcome, n]) => `${outcome} ${n}`).join(", "));
console.log(`executions ${executions} link MB ${Math.round(bytes / 1e6)}`);
console.log(`seeds ${seeds} requests ${requests} violations ${violations}`);
process.exitCode = violations > 0 ? 1 : 0;
