/** `node test/simulation/run.ts --seeds N [--seed S] [--trace]`: runs seeds S … S+N-1, prints the failing ones, exits 1 if any. */
import { parseArgs } from "node:util";
import { simulateSeed } from "./simulate.ts";

const { values } = parseArgs({
  options: { seeds: { type: "string" }, seed: { type: "string", default: "1" }, trace: { type: "boolean" } },
});
const first = Number(values.seed);
const count = Number(values.seeds ?? 1);
const outcomes = new Map<string, number>();
let requests = 0;
let violations = 0;
for (let seed = first; seed < first + count; seed++) {
  const run = simulateSeed(seed, values.trace ? (line) => console.log(line) : null);
  requests += run.requests;
  violations += run.violations.length;
  for (const [outcome, n] of run.outcomes) outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + n);
  if (run.violations.length > 0) {
    console.log(`seed ${seed}: ${run.violations.length} violations`);
    for (const violation of run.violations.slice(0, 5)) console.log(`  ${violation}`);
  }
}
console.log([...outcomes].map(([outcome, n]) => `${outcome} ${n}`).join(", "));
console.log(`seeds ${count} requests ${requests} violations ${violations}`);
process.exitCode = violations > 0 ? 1 : 0;
