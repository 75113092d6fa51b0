/**
 * `npm run mutants [-- PART-OF-A-NAME | --links]`: plants each bug of mutant-list.ts and byte-mutants.ts in a copy of the tree and expects that the
 * simulation (10 seeds) or a test notices. Without a part of a name the table goes to docs/simulation.md. Exit code 1
 * when one survives.
 */
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { BYTE_MUTANTS } from "./byte-mutants.ts";
import { MUTANTS, type Mutant, type Piece } from "./mutant-list.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const COPIED = ["actors", "src", "test", "package.json", "tsconfig.json", "vitest.config.ts"];
const SEEDS = 10;
const TOO_LONG = 60_000;

type Verdict = {
  readonly mutant: Mutant;
  readonly simulation: string;
  readonly tests: string;
  readonly caught: boolean;
};

const [filter] = process.argv.slice(2);
const tree = mkdtempSync(join(tmpdir(), "kas-mutants-"));
try {
  for (const name of COPIED) cpSync(join(ROOT, name), join(tree, name), { recursive: true });
  symlinkSync(join(ROOT, "node_modules"), join(tree, "node_modules"));
  const all = filter === "--links" ? BYTE_MUTANTS : [...MUTANTS, ...BYTE_MUTANTS];
  const mutants = all.filter(({ bug }) => !filter || filter === "--links" || bug.includes(filter));
  const verdicts = mutants.map((mutant, i) => judge(mutant, `${i + 1}/${mutants.length}`));
  if (!filter) writeTable(verdicts);
  const survivors = verdicts.filter(({ caught }) => !caught);
  console.log(`mutants ${verdicts.length} caught ${verdicts.length - survivors.length}`);
  for (const { mutant } of survivors) console.log(`survived: ${mutant.bug}`);
  process.exitCode = survivors.length > 0 ? 1 : 0;
} finally {
  rmSync(tree, { recursive: true, force: true });
}

function judge(mutant: Mutant, place: string): Verdict {
  const pieces: readonly Piece[] = [mutant, ...(mutant.also ?? [])];
  const sources = pieces.map(({ file }) => readFileSync(join(tree, file), "utf8"));
  const stale = pieces.find(({ find }, i) => sources[i]?.split(find).length !== 2);
  if (stale) {
    console.log(`${place} ${mutant.bug}: ${stale.file} does not hold exactly one ${JSON.stringify(stale.find)}`);
    return { mutant, simulation: "", tests: "", caught: false };
  }
  for (const [i, { file, find, replace }] of pieces.entries()) {
    writeFileSync(join(tree, file), sources[i]?.replace(find, () => replace) ?? "");
  }
  const simulation = simulate();
  const tests = runTests(mutant.tests);
  for (const [i, { file }] of pieces.entries()) writeFileSync(join(tree, file), sources[i] ?? "");
  console.log(`${place} ${mutant.bug}: simulation ${simulation || "nothing"}, tests ${tests || "nothing"}`);
  return { mutant, simulation, tests, caught: simulation !== "" || tests !== "" };
}

/** The first seed that fails and what it says; "" when none does. */
function simulate(): string {
  const { stdout, status, signal } = run(["test/simulation/run.ts", "--seeds", String(SEEDS), "--first"]);
  if (status === 0) return "";
  if (signal) return "does not end";
  const seed = stdout.match(/^seed (\d+):/m)?.[1];
  const kinds = new Set([...stdout.matchAll(/^ {2}(I\d+)?/gm)].map(([, kind]) => kind ?? "other"));
  return seed ? `seed ${seed}: ${[...kinds].sort().join(", ")}` : "throws";
}

/** How many tests fail; "" when none does. */
function runTests(files: readonly string[]): string {
  const { stdout, status, signal } = run(["node_modules/vitest/vitest.mjs", "run", "--project", "unit", ...files]);
  if (status === 0) return "";
  const failed = stripColours(stdout).match(/Tests\s+(\d+) failed/)?.[1];
  return failed ?? (signal ? "they do not end" : "all");
}

function run(args: readonly string[]) {
  return spawnSync(process.execPath, args, { cwd: tree, encoding: "utf8", timeout: TOO_LONG, maxBuffer: 2 ** 26 });
}

function stripColours(text: string): string {
  return text.replaceAll(new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, "g"), "");
}

function writeTable(verdicts: readonly Verdict[]): void {
  const path = join(ROOT, "docs/simulation.md");
  const rows = verdicts.map(({ mutant, simulation, tests }) => {
    return `| ${mutant.bug} | ${simulation || "–"} | ${tests || "–"} |`;
  });
  const table = [`| planted bug | simulation, ${SEEDS} seeds | tests that fail |`, "|---|---|---|", ...rows].join("\n");
  const page = readFileSync(path, "utf8");
  writeFileSync(
    path,
    page.replace(/(<!-- mutants -->\n)[\s\S]*(\n<!-- end -->)/, (_, a, b) => `${a}${table}${b}`),
  );
}
