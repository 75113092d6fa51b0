/** Load by wrk and h2load. Every answer counts as failed that is not 2xx, and a run with one that failed is an error. */
import { execFile } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { findProgram } from "../../e2e/support/need.ts";
import { ROOT } from "../../e2e/support/run-dir.ts";
import { percentile } from "./statistics.ts";

const run = promisify(execFile);

/** Where a latency curve has its points, and where `report.lua` reads wrk's histogram; the last is the slowest request. */
export const SHARES = [0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 1] as const;

export type Load = {
  readonly requests: number;
  readonly seconds: number;
  readonly p50: number;
  readonly p99: number;
  /** Milliseconds at each of SHARES. */
  readonly latency: readonly number[];
  /** Read by the callers, heads included. */
  readonly bytes: number;
};

export type Ask = {
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly callers: number;
  readonly seconds: number;
  /** PUT so many bytes instead of GET. */
  readonly upload?: number;
  /** Ends it early: then it counts nothing and fails. */
  readonly signal?: AbortSignal;
};

export function program(name: "wrk" | "h2load", debianPackage: string): string {
  const path = findProgram(name);
  if (path) return path;
  throw new Error(`${name} is not here: apt-get install ${debianPackage}`);
}

const flags = (headers: Readonly<Record<string, string>>): string[] =>
  Object.entries(headers).flatMap(([name, value]) => ["-H", `${name}: ${value}`]);

type Report = {
  readonly requests: number;
  readonly failed: number;
  readonly micros: number;
  readonly bytes: number;
  readonly latency: readonly number[];
};

export async function wrk({ url, headers = {}, callers, seconds, upload, signal }: Ask): Promise<Load> {
  const script = join(ROOT, "test", "bench", "support", "report.lua");
  const args = [
    "-t1",
    `-c${callers}`,
    `-d${Math.ceil(seconds)}`,
    "--timeout",
    "30",
    "-s",
    script,
    ...flags(headers),
    url,
  ];
  const more = upload === undefined ? [] : ["--", "PUT", String(upload)];
  const { stdout } = await run(program("wrk", "wrk"), [...args, ...more], { signal });
  const line = stdout.split("\n").findLast((text) => text.startsWith("{"));
  if (!line) throw new Error(`${url}: wrk reported nothing\n${stdout}`);
  const report: Report = JSON.parse(line);
  if (report.failed > 0) throw new Error(`${url}: ${report.failed} of ${report.requests} requests failed\n${stdout}`);
  const latency = report.latency.map((micros) => micros / 1_000);
  const [p50 = Number.NaN, , , p99 = Number.NaN] = latency;
  return { requests: report.requests, seconds: report.micros / 1e6, bytes: report.bytes, p50, p99, latency };
}

export type H2Ask = {
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly connections: number;
  /** Requests at once on each connection. */
  readonly streams: number;
  /** For so long, or so many requests. */
  readonly seconds?: number;
  readonly requests?: number;
  /** Sends this file as the body. */
  readonly body?: string;
  readonly http1?: boolean;
  /** Where it may write its log. */
  readonly log: string;
};

export async function h2load(ask: H2Ask): Promise<Load> {
  const amount = ask.seconds ? [`-D${ask.seconds}`] : [`-n${ask.requests ?? 1}`];
  const args = [...amount, "-t1", `-c${ask.connections}`, `-m${ask.streams}`, `--log-file=${ask.log}`];
  const more = [...(ask.http1 ? ["--h1"] : []), ...(ask.body ? ["-d", ask.body] : [])];
  rmSync(ask.log, { force: true });
  const begun = performance.now();
  const { stdout } = await run(program("h2load", "nghttp2-client"), [
    ...args,
    ...more,
    ...flags(ask.headers ?? {}),
    ask.url,
  ]);
  const seconds = ask.seconds ?? (performance.now() - begun) / 1_000;
  const lines = readFileSync(ask.log, "utf8").trim().split("\n");
  const fields = lines.map((line) => line.split("\t"));
  const bad = fields.filter(([, status]) => !status?.startsWith("2")).length;
  if (bad > 0) throw new Error(`${ask.url}: ${bad} of ${lines.length} requests failed\n${stdout}`);
  const times = fields.map(([, , micros]) => Number(micros) / 1_000).toSorted((a, b) => a - b);
  const latency = SHARES.map((share) => percentile(times, share));
  const [p50 = Number.NaN, , , p99 = Number.NaN] = latency;
  return { requests: lines.length, seconds, p50, p99, latency, bytes: 0 };
}
