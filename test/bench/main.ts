/**
 * `npm run bench [name …] [-- --quick] [-- --write] [-- --profile [DIR]] [-- --callers=32]`: measures what is promised, side by
 * side with its baselines in one run. `--profile` leaves a flame graph of each process in DIR; `--write` puts what was measured
 * into docs/. Progress goes to stderr, a line for each row; the tables to stdout.
 */
import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { BENCHES, IN_QUICK, PROFILED } from "./benches.ts";
import { elsewhere, references } from "./references.ts";
import { type Measured, missedText, sizingTable } from "./support/document.ts";
import { program } from "./support/load.ts";
import { type Bench, type Finding, markdown, type Row, verdict } from "./support/row.ts";
import { write } from "./support/write.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: "boolean", default: false },
    profile: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
    callers: { type: "string" },
  },
});
/** Of under 3 and under 12 minutes, ms. */
const [QUICK_ENOUGH, LONG_ENOUGH] = [160_000, 660_000];
const begun = performance.now();
const print = (line: string): void => void process.stdout.write(`${line}\n`);
const progress = (line: string): void => {
  const seconds = ((performance.now() - begun) / 1_000).toFixed(0).padStart(4);
  process.stderr.write(`${seconds} s  ${line}\n`);
};

/** A folder is told from a name by its slash. */
const folders = positionals.filter((word) => word.includes("/"));
const asked = positionals.filter((word) => !word.includes("/"));
for (const name of asked) {
  if (!BENCHES[name]) throw new Error(`no benchmark ${name}: there are ${Object.keys(BENCHES).join(", ")}`);
}
program("wrk", "wrk");
program("h2load", "nghttp2-client");

const whole = values.quick ? IN_QUICK : values.profile ? PROFILED : Object.keys(BENCHES);
const names = asked.length > 0 ? asked : whole;
/** A whole run begins nothing new after so long; what it left out is said at its end. */
const longest = asked.length > 0 ? Number.POSITIVE_INFINITY : values.quick ? QUICK_ENOUGH : LONG_ENOUGH;
const measured: Measured = {};
const [broken, late]: [string[], string[]] = [[], []];
for (const name of names) {
  if (performance.now() - begun < longest) await run(name);
  else late.push(name);
}
conclude();

async function run(name: string): Promise<void> {
  const profile = values.profile && PROFILED.includes(name) ? profileDir(name) : null;
  const callers = values.callers?.split(",").map(Number) ?? null;
  const bench: Bench = { quick: values.quick, profile, callers, say: print };
  const findings: Finding[] = [];
  progress(`${name} …`);
  try {
    for await (const finding of BENCHES[name]?.(bench) ?? []) {
      findings.push(finding);
      if (finding.type === "row") progress(lineOf(finding.row));
    }
  } catch (error) {
    broken.push(name);
    progress(`${name} broke: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  }
  if (!broken.includes(name)) measured[name] = { quick: values.quick, findings };
  if (profile) progress(`profiles and flame graphs: ${profile}`);
}

function profileDir(name: string): string {
  const dir = folders[0] ? resolve(folders[0], name) : mkdtempSync(join(tmpdir(), `kas-profile-${name}-`));
  mkdirSync(dir, { recursive: true });
  return dir;
}

function lineOf(row: Row): string {
  const target = row.target && ` (target: ${row.target})`;
  return [verdict(row).padEnd(6), `${row.name}:`, row.measured, row.ratio && `= ${row.ratio}`, target]
    .filter(Boolean)
    .join(" ");
}

function conclude(): void {
  const rows = Object.values(measured).flatMap(({ findings }) =>
    findings.flatMap((finding) => (finding.type === "row" ? [finding.row] : [])),
  );
  print(`\n${markdown(rows)}`);
  const sizes = sizingTable(measured);
  if (sizes) print(`\nWhat one node carries\n\n${sizes}`);
  if (asked.length === 0 && !values.profile) print(`\n${references}\n\n${elsewhere(values.quick)}`);
  print(`\n${missedText(rows)}`);
  print(`took ${((performance.now() - begun) / 60_000).toFixed(1)} minutes`);
  if (values.write) progress(`written: ${write(measured).join(", ")}`);
  if (late.length > 0) print(`not measured, the machine is too slow for one run: npm run bench ${late.join(" ")}`);
  if (broken.length > 0) print(`broken: ${broken.join(", ")}`);
  // What is written to a pipe would be lost with the process.
  process.stdout.write("", () => process.exit(broken.length > 0 ? 1 : 0));
}
