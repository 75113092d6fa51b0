/**
 * `npm run sim` runs 10,000 seeds on all cores; `-- --seeds N [--seed S]` runs S … S+N-1, `-- --seed S` that one. Failing
 * seeds are printed with what they violate; with `--first` it stops at the first. `--trace` prints every message that
 * arrives, `--frames` every frame too, one seed after the other. The last line sums up. Exit code 1 when an invariant was
 * violated.
 */
import { parseArgs } from "node:util";
import { type Run, simulateSeed } from "./simulate.ts";
import { simulateSeeds } from "./threads.ts";

const { values } = parseArgs({
  options: {
    seeds: { type: "string" },
    seed: { type: "string" },
    trace: { type: "boolean" },
    frames: { type: "boolean" },
    first: { type: "boolean" },
  },
});
const MANY = 10_000;
const PROGRESS_EVERY = 100;

const first = wholeNumber("--seed", values.seed, 1);
const count = wholeNumber("--seeds", values.seeds, values.seed === undefined ? MANY : 1);
const outcomes = new Map<string, number>();
let seeds = 0;
let requests = 0;
let violations = 0;
let executions = 0;
let bytes = 0;
const begun = performance.now();

function wholeNumber(option: string, text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  console.error(`${option} takes a whole number from 1 to 999999999, not ${JSON.stringify(text)}`);
  process.exit(2);
}

async function* runs(): AsyncGenerator<Run> {
  if (!values.trace && !values.frames) return yield* simulateSeeds({ first, count });
  const tracing = { line: (line: string) => console.log(line), frames: values.frames === true };
  for (let seed = first; seed < first + count; seed++) yield await simulateSeed(seed, tracing);
}

/** A world in which nothing works proves nothing. Some seeds start the busiest agent when most of it is over. */
function servedTooFew({ requests, outcomes }: Run): boolean {
  const done = outcomes.get("done") ?? 0;
  return 4 * done <= requests || 2 * done <= requests - (outcomes.get("agent-offline") ?? 0);
}

function add(run: Run): void {
  seeds++;
  requests += run.requests;
  violations += run.violations.length;
  executions += run.executions;
  bytes += run.bytes;
  for (const [outcome, n] of run.outcomes) outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + n);
  if (seeds % PROGRESS_EVERY === 0) {
    const seconds = Math.round((performance.now() - begun) / 1_000);
    console.error(`${seeds} of ${count} seeds, ${requests} requests, ${violations} violations, ${seconds} s`);
  }
  if (servedTooFew(run)) {
    violations++;
    console.log(`seed ${run.seed}: of its ${run.requests} requests too few were served`);
  }
  if (run.violations.length === 0) return;
  console.log(`seed ${run.seed}: ${run.violations.length} violations`);
  for (const violation of run.violations.slice(0, 5)) console.log(`  ${violation}`);
}

for await (const run of runs()) {
  add(run);
  if (values.first && violations > 0) break;
}
console.log([...outcomes].map(([outcome, n]) => `${outcome} ${n}`).join(", "));
console.log(`executions ${executions} link MB ${Math.round(bytes / 1e6)}`);
console.log(`seeds ${seeds} requests ${requests} violations ${violations}`);
process.exitCode = violations > 0 ? 1 : 0;
