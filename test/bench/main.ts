/**
 * `npm run bench [name …] [-- --quick] [-- --profile] [-- --write] [-- --callers=32]`: measures what docs/benchmarks.md promises, side by side
 * with its baselines in one run. `--profile` tells where each process's time goes; `--write` puts the table into the document.
 */
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { bulk } from "./bulk.ts";
import { burst } from "./burst.ts";
import { get } from "./get.ts";
import { grpc } from "./grpc.ts";
import { idle } from "./idle.ts";
import { stalled } from "./stalled.ts";
import { program } from "./support/load.ts";
import { type Bench, markdown, type Row } from "./support/row.ts";

const BENCHES: Readonly<Record<string, (bench: Bench) => Promise<readonly Row[]>>> = {
  get,
  grpc,
  bulk,
  stalled,
  burst,
  idle,
};
const PROFILED = new Set(["get", "grpc", "bulk"]);
const DOCUMENT = join("docs", "benchmarks.md");
const [BEGIN, END] = ["<!-- measured -->", "<!-- /measured -->"];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: "boolean", default: false },
    profile: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
    callers: { type: "string" },
  },
});

const names = positionals.length > 0 ? positionals : Object.keys(BENCHES);
for (const name of names) {
  if (!BENCHES[name]) throw new Error(`no benchmark ${name}: there are ${Object.keys(BENCHES).join(", ")}`);
}
program("wrk", "wrk");
program("h2load", "nghttp2-client");

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const callers = values.callers?.split(",").map(Number) ?? null;
const rows: Row[] = [];
for (const name of names) {
  const profile = values.profile && PROFILED.has(name) ? mkdtempSync(join(tmpdir(), `kas-profile-${name}-`)) : null;
  const found = (await BENCHES[name]?.({ quick: values.quick, profile, callers, say })) ?? [];
  rows.push(...found);
  say(`\n${markdown(found)}`);
  if (profile) say(`profiles: ${profile}`);
}
if (values.write) write(rows);

function write(rows: readonly Row[]): void {
  const before = existsSync(DOCUMENT) ? readFileSync(DOCUMENT, "utf8") : `# Benchmarks\n\n${BEGIN}\n${END}\n`;
  const machine = `Node ${process.versions.node} on ${cpus().length} × ${cpus()[0]?.model ?? "an unknown CPU"}`;
  const table = `${BEGIN}\n\n${machine}, everything on the same machine.\n\n${markdown(rows)}\n\n${END}`;
  const [first = "", rest = ""] = before.split(BEGIN);
  writeFileSync(DOCUMENT, `${first}${table}${rest.split(END)[1] ?? ""}`);
}
process.exit(0);
