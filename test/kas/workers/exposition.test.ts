/** Pages of metrics made one: each family once, every series of a worker with its label, and promtool agrees. */
import { execFileSync, spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { mergeExpositions } from "../../../src/kas/workers/exposition.ts";
import { createSupervisorMetrics } from "../../../src/kas/workers/metrics.ts";
import { createMetrics } from "../../../src/telemetry/metrics.ts";

const promtool = spawnSync("promtool", ["--version"]).status === 0;

const page = (value: number) => `# HELP a_total What a is
# TYPE a_total counter
a_total{code="x, {y}",node="n"} ${value}
a_total 7

# HELP b How b is
# TYPE b gauge
b{} ${value}
`;

/** Pages of two workers that have counted something, and of their supervisor. */
async function realPages() {
  using supervisor = createSupervisorMetrics("kas-0", 2);
  const readiness = { ready: true, phase: "ready", reason: "" };
  supervisor.watch([0, 1].map((index) => ({ index, readiness })));
  supervisor.restarted(1);
  const pages = [{ worker: null, text: await supervisor.registry.metrics() }];
  const merged: { worker: number | null; text: string }[] = pages;
  for (const worker of [0, 1]) {
    using metrics = createMetrics({ node: `kas-0-w${worker}`, version: "1.2.3" });
    metrics.proxy.duration.get.ok.observe(0.2);
    metrics.streams.opened.http.local.inc(worker + 1);
    merged.push({ worker, text: await metrics.registry.metrics() });
  }
  return mergeExpositions(merged);
}

describe("pages of several workers", () => {
  it("become one, each family once and with the samples of all", () => {
    const merged = mergeExpositions([
      { worker: 0, text: page(1) },
      { worker: 1, text: page(2) },
    ]);
    expect(merged).toBe(`# HELP a_total What a is
# TYPE a_total counter
a_total{worker="0",code="x, {y}",node="n"} 1
a_total{worker="0"} 7
a_total{worker="1",code="x, {y}",node="n"} 2
a_total{worker="1"} 7
# HELP b How b is
# TYPE b gauge
b{worker="0"} 1
b{worker="1"} 2
`);
  });

  it("leave the samples alone that say themselves whose they are", () => {
    expect(mergeExpositions([{ worker: null, text: 'c{worker="supervisor"} 1\n' }])).toBe('c{worker="supervisor"} 1\n');
  });

  it("hold every series of the real pages once, whatever comes last or is missing", async () => {
    const merged = await realPages();
    const samples = merged.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    const series = samples.map((line) => line.slice(0, line.lastIndexOf(" ")));
    expect(new Set(series).size).toBe(series.length);
    expect(series.filter((name) => !/[{,]worker="(?:0|1|supervisor)"/.test(name))).toEqual([]);
    expect(merged).toMatch(/^kas_streams_opened_total\{worker="1",.*\} 2$/m);
    expect(merged).toMatch(/^kas_worker_restarts_total\{worker="1",node="kas-0"\} 1$/m);
    expect(merged).toMatch(/^kas_worker_up\{worker="0",node="kas-0"\} 1$/m);
    expect(merged).toMatch(/^process_resident_memory_bytes\{node="kas-0",worker="supervisor"\} \d+$/m);
  });

  it.skipIf(!promtool)("are what promtool calls clean", async () => {
    // Node's own client names these three badly.
    const text = (await realPages()).replaceAll(/^.*nodejs_active_(?:handles|requests|resources)_total.*\n/gm, "");
    expect(execFileSync("promtool", ["check", "metrics"], { input: text }).toString()).toBe("");
  });
});
