/** Load by wrk and h2load. Every answer counts as failed that is not 2xx, and a run with one that failed is an error. */
import { execFile } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { promisify } from "node:util";
import { findProgram } from "../../e2e/support/need.ts";
import { percentile } from "./statistics.ts";

const run = promisify(execFile);

export type Load = {
  readonly requests: number;
  readonly seconds: number;
  readonly p50: number;
  readonly p99: number;
  /** Read by the callers, heads included. */
  readonly bytes: number;
};

export type Ask = {
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly callers: number;
  readonly seconds: number;
  /** A Lua script of wrk's. */
  readonly script?: string;
  /** Ends it early: then it counts nothing and fails. */
  readonly signal?: AbortSignal;
};

export function program(name: "wrk" | "h2load", debianPackage: string): string {
  const path = findProgram(name);
  if (path) return path;
  throw new Error(`${name} is not here: apt-get install ${debianPackage}`);
}

const UNITS: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1_000, m: 60_000 };
const SIZES: Readonly<Record<string, number>> = { B: 1, KB: 2 ** 10, MB: 2 ** 20, GB: 2 ** 30 };

function millis(text: string, label: string): number {
  const [, value, unit] = new RegExp(`${label}\\s+([\\d.]+)(us|ms|s|m)\\b`).exec(text) ?? [];
  return Number(value) * (UNITS[unit ?? ""] ?? Number.NaN);
}

const flags = (headers: Readonly<Record<string, string>>): string[] =>
  Object.entries(headers).flatMap(([name, value]) => ["-H", `${name}: ${value}`]);

export async function wrk({ url, headers = {}, callers, seconds, script, signal }: Ask): Promise<Load> {
  const args = ["-t1", `-c${callers}`, `-d${seconds}s`, "--timeout", "30s", "--latency", ...flags(headers)];
  const { stdout } = await run(program("wrk", "wrk"), [...args, ...(script ? ["-s", script] : []), url], { signal });
  const faults = /Socket errors: (.*)|Non-2xx or 3xx responses: .*/.exec(stdout);
  if (faults) throw new Error(`${url}: ${faults[0]}`);
  const [, requests, took, size, unit] = /(\d+) requests in ([\d.]+)s, ([\d.]+)([KMG]?B) read/.exec(stdout) ?? [];
  return {
    requests: Number(requests),
    seconds: Number(took),
    p50: millis(stdout, "50%"),
    p99: millis(stdout, "99%"),
    bytes: Number(size) * (SIZES[unit ?? ""] ?? Number.NaN),
  };
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
  const times = fields.map(([, , micros]) => Number(micros) / 1_000);
  return { requests: lines.length, seconds, p50: percentile(times, 0.5), p99: percentile(times, 0.99), bytes: 0 };
}
