/**
 * Closes a run: a table of what was shown, by which test, with what result and what was real in it, then what failed and
 * why, then the plain count.
 * Arguments: vitest's JSON report and the evidence file. Exits with 1 when a test failed or none ran.
 */
import { existsSync, readFileSync } from "node:fs";
import { relative } from "node:path";
import type { Evidence } from "./evidence.ts";

type Assertion = {
  readonly ancestorTitles: readonly string[];
  readonly title: string;
  readonly status: string;
  readonly failureMessages?: readonly string[];
};
type FileResult = {
  readonly name: string;
  readonly status: string;
  readonly message: string;
  readonly assertionResults: readonly Assertion[];
};
type Report = { readonly testResults: readonly FileResult[] };
type Row = { readonly line: string; readonly test: string; readonly result: string; readonly real: string };

const [reportFile = "", evidenceFile = ""] = process.argv.slice(2);

function readEvidence(): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, string[]>();
  if (!existsSync(evidenceFile)) return found;
  for (const text of readFileSync(evidenceFile, "utf8").split("\n").filter(Boolean)) {
    const { file, part, version }: Evidence = JSON.parse(text);
    const named = version.startsWith(part) ? version : `${part} ${version}`;
    found.set(file, [...new Set([...(found.get(file) ?? []), named])]);
  }
  return found;
}

const RESULT: Readonly<Record<string, string>> = { passed: "pass", failed: "FAIL" };
const result = (status: string) => RESULT[status] ?? "skipped";

/** Each end-to-end test is a row; the others are counted by file. */
function rows(report: Report, real: ReadonlyMap<string, readonly string[]>): readonly Row[] {
  return report.testResults
    .toSorted((a, b) => a.name.localeCompare(b.name))
    .flatMap((file) => {
      const path = relative(process.cwd(), file.name);
      const parts = real.get(path)?.join("; ") ?? "";
      if (file.assertionResults.length === 0) {
        return [{ line: path, test: file.message.split("\n")[0] ?? "", result: result(file.status), real: parts }];
      }
      if (!path.startsWith("test/e2e/")) return [summary(path, file.assertionResults)];
      return file.assertionResults.map(({ ancestorTitles, title, status }) => {
        return {
          line: ancestorTitles.join(" › "),
          test: title,
          result: result(status),
          real: status === "passed" ? parts : "",
        };
      });
    });
}

function summary(path: string, tests: readonly Assertion[]): Row {
  const failed = tests.filter(({ status }) => status === "failed").length;
  const passed = tests.filter(({ status }) => status === "passed").length;
  return { line: path, test: `${passed} of ${tests.length} tests`, result: failed > 0 ? "FAIL" : "pass", real: "" };
}

function print(table: readonly Row[]): void {
  const columns = ["line", "test", "result", "real"] as const;
  const head: Row = { line: "how we know", test: "its test", result: "result", real: "what was real" };
  const widest = { line: 44, test: 92, result: 7, real: 200 } as const;
  const width = (column: keyof Row) =>
    Math.min(widest[column], Math.max(...[head, ...table].map((row) => row[column].length)));
  const cell = (text: string, size: number) => (text.length > size ? `${text.slice(0, size - 1)}…` : text.padEnd(size));
  for (const row of [head, ...table]) {
    process.stdout.write(
      `${columns
        .map((column) => cell(row[column], width(column)))
        .join(" | ")
        .trimEnd()}\n`,
    );
  }
}

const MESSAGE_LINES = 12;

/** Last, because the end of a long output is what people see first. */
function printFailures({ testResults }: Report): void {
  for (const { name, status, message, assertionResults } of testResults) {
    const path = relative(process.cwd(), name);
    const failed = assertionResults.filter((test) => test.status === "failed");
    if (status === "failed" && assertionResults.length === 0)
      process.stdout.write(`\nFAIL ${path}\n${brief(message)}\n`);
    for (const { ancestorTitles, title, failureMessages = [] } of failed) {
      const test = [path, ...ancestorTitles, title].join(" › ");
      process.stdout.write(`\nFAIL ${test}\n${failureMessages.map(brief).join("\n")}\n`);
    }
  }
}

const brief = (message: string) => message.split("\n").slice(0, MESSAGE_LINES).join("\n");

function main(): number {
  if (!existsSync(reportFile)) {
    process.stdout.write("no test ran: see the first error above\n0 passed, 0 failed\n");
    return 1;
  }
  const report: Report = JSON.parse(readFileSync(reportFile, "utf8"));
  print(rows(report, readEvidence()));
  printFailures(report);
  const tests = report.testResults.flatMap(({ assertionResults }) => assertionResults);
  const count = (status: string) => tests.filter((test) => test.status === status).length;
  const brokenFiles = report.testResults.filter((f) => f.status === "failed" && f.assertionResults.length === 0).length;
  const failed = count("failed") + brokenFiles;
  process.stdout.write(`\n${count("passed")} passed, ${failed} failed\n`);
  return failed > 0 || tests.length === 0 ? 1 : 0;
}

process.exitCode = main();
