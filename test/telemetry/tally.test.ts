import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { describe, expect, it } from "vitest";
import { counter, gauge, histogram } from "../../src/telemetry/tally.ts";

const BOUNDS = [0.1, 1, 10];
const VALUES = [0.05, 0.1, 0.5, 3, 10, 11, 0];

/** What prom-client's own metrics and ours say of the same events. */
async function both(fill: (ours: Registry, theirs: Registry) => void): Promise<readonly [string[], string[]]> {
  const registries = [new Registry(), new Registry()] as const;
  for (const registry of registries) registry.setDefaultLabels({ node: "kas-0" });
  fill(...registries);
  const [ours, theirs] = await Promise.all(registries.map((registry) => registry.metrics()));
  return [linesOf(ours ?? ""), linesOf(theirs ?? "")];
}

/** Labels in one order: theirs depends on where they came from. */
const linesOf = (page: string): string[] =>
  page.split("\n").map((line) => line.replace(/\{(.*)\}/, (_, labels: string) => labels.split(",").toSorted().join()));

describe("metrics kept as plain numbers", () => {
  it("read as prom-client's own counters and gauges do", async () => {
    const [ours, theirs] = await both((mine, others) => {
      const series = counter({ registry: mine, name: "c", help: "a counter", labels: ["code"] });
      const [a, b] = [series({ code: "200" }), series({ code: "500" })];
      const real = new Counter({ name: "c", help: "a counter", labelNames: ["code"], registers: [others] });
      a.inc();
      a.inc(3);
      real.inc({ code: "200" }, 4);
      b.inc(0);
      real.inc({ code: "500" }, 0);
      const level = gauge({ registry: mine, name: "g", help: "a gauge", labels: [] })({});
      const realLevel = new Gauge({ name: "g", help: "a gauge", registers: [others] });
      level.inc(5);
      level.dec();
      realLevel.set(4);
    });
    expect(ours).toEqual(theirs);
  });

  it("say the same at every collection", async () => {
    const registry = new Registry();
    counter({ registry, name: "c", help: "a counter", labels: [] })({}).inc(2);
    const first = await registry.metrics();
    expect(await registry.metrics()).toBe(first);
    expect(first).toContain("\nc 2\n");
  });

  it("read as prom-client's own histograms do, on and between and above the bounds", async () => {
    const [ours, theirs] = await both((mine, others) => {
      const config = { name: "h", help: "a histogram" };
      const series = histogram({ registry: mine, ...config, labels: ["hop"] }, BOUNDS);
      const real = new Histogram({ ...config, labelNames: ["hop"], buckets: BOUNDS, registers: [others] });
      const local = series({ hop: "local" }, false);
      for (const value of VALUES) local.observe(value);
      for (const value of VALUES) real.observe({ hop: "local" }, value);
      series({ hop: "remote" }, true);
      real.zero({ hop: "remote" });
      series({ hop: "inbound" }, false); // nothing happened: no series
    });
    expect(ours).toEqual(theirs);
  });
});
