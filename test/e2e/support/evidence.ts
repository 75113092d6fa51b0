/**
 * What was real in a test: each part's name and version as the part itself reported them, one JSON line each, appended to the
 * file that KAS_TEST_EVIDENCE names (nowhere when it names none). `report.ts` reads them.
 */
import { appendFileSync } from "node:fs";
import { relative } from "node:path";
import { expect } from "vitest";
import { ROOT } from "./run-dir.ts";

export type Evidence = { readonly file: string; readonly part: string; readonly version: string };

const told = new Set<string>();

export function evidence(part: string, version: string): void {
  const { testPath } = expect.getState();
  const line: Evidence = { file: testPath ? relative(ROOT, testPath) : "", part, version };
  const text = JSON.stringify(line);
  const path = process.env.KAS_TEST_EVIDENCE;
  if (!path || told.has(text)) return;
  told.add(text);
  appendFileSync(path, `${text}\n`);
}
