/**
 * Puts what was measured into docs/: all of it as JSON, from that the tables of benchmarks.md between its marks, and the plot.
 * A run of some benchmarks replaces what was known of these and keeps the others.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { BENCHES } from "../benches.ts";
import { elsewhere, references } from "../references.ts";
import { type Measured, missedText, rowsOf, sizingTable } from "./document.ts";
import { plot } from "./plot.ts";
import { markdown } from "./row.ts";

const PAGE = join("docs", "benchmarks.md");
const NUMBERS = join("docs", "benchmarks.json");
const PLOT = join("docs", "benchmarks.svg");

type Kept = { readonly [name: string]: Measured[string] & { readonly machine: string; readonly day: string } };

/** The files it wrote. */
export function write(measured: Measured): readonly string[] {
  const before: Kept = existsSync(NUMBERS) ? JSON.parse(readFileSync(NUMBERS, "utf8")) : {};
  const machine = `Node ${process.versions.node} on ${cpus().length} × ${cpus()[0]?.model.trim() ?? "an unknown CPU"}`;
  const day = new Date().toISOString().slice(0, 10);
  const fresh = Object.entries(measured).map(([name, one]) => [name, { ...one, machine, day }] as const);
  const known: Kept = { ...before, ...Object.fromEntries(fresh) };
  const all: Kept = Object.fromEntries(
    Object.keys(BENCHES).flatMap((name) => (known[name] ? [[name, known[name]] as const] : [])),
  );
  writeFileSync(NUMBERS, `${JSON.stringify(all, null, 1)}\n`);
  spawnSync(join("node_modules", ".bin", "biome"), ["format", "--write", NUMBERS]);
  writeFileSync(PLOT, plot(Object.values(all).flatMap(({ findings }) => findings)));
  writeBlock("measured", measuredText(all));
  writeBlock("sizing", sizingTable(all));
  return [NUMBERS, PLOT, PAGE];
}

function measuredText(all: Kept): string {
  const rows = Object.values(all).flatMap(({ findings }) => rowsOf(findings));
  return [origins(all), markdown(rows), missedText(rows).replaceAll("\n", "\n- "), references, elsewhere(false)].join(
    "\n\n",
  );
}

/** Where and when, once for all that agree. */
function origins(all: Kept): string {
  const groups = new Map<string, string[]>();
  for (const [name, { machine, day, quick }] of Object.entries(all)) {
    const origin = `${machine}, everything on the same machine, ${day}${quick ? ", quick run" : ""}`;
    groups.set(origin, [...(groups.get(origin) ?? []), name]);
  }
  if (groups.size === 1) return `${[...groups.keys()][0]}.`;
  return [...groups].map(([origin, names]) => `${origin}: ${names.join(", ")}.`).join("\n\n");
}

/** Replaces what stands between two marks of the page. */
export function writeBlock(mark: string, text: string): void {
  const [begin, end] = [`<!-- ${mark} -->`, `<!-- /${mark} -->`];
  const page = readFileSync(PAGE, "utf8");
  const [first, rest] = page.split(begin);
  const last = rest?.split(end)[1];
  if (first === undefined || last === undefined) throw new Error(`${PAGE} has no ${begin} … ${end}`);
  writeFileSync(PAGE, `${first}${begin}\n\n${text}\n\n${end}${last}`);
}
