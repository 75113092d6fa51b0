/** What is told of requests, and which series show it. */
import { afterEach, expect, it } from "vitest";
import { measureInbound, measureIngress } from "../../src/kas/measure.ts";
import type { Open } from "../../src/link/messages.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";

let metrics = createMetrics({ node: "kas-0", version: "1" });
afterEach(() => {
  metrics[Symbol.dispose]();
  metrics = createMetrics({ node: "kas-0", version: "1" });
});

async function value(series: string): Promise<number> {
  const text = await metrics.registry.metrics();
  return Number(
    text
      .split("\n")
      .find((line) => line.startsWith(series))
      ?.split(" ")
      .at(-1),
  );
}

it("counts a request that could not wait as parked, and one that its agent's holder refused as that", async () => {
  const { unrouted, refused } = measureIngress(metrics);
  unrouted("busy", 5, 0);
  refused?.("busy");
  unrouted("busy", 5_000, 12);
  measureInbound(metrics).refused("busy");
  measureInbound(metrics).refused("not-owner");
  expect(await value('kas_limit_rejections_total{limit="parked"')).toBe(1);
  expect(await value('kas_limit_rejections_total{limit="streams_per_agent"')).toBe(2);
});

it("counts what is carried for other nodes closed as it ended", async () => {
  const { opened, closed } = measureInbound(metrics);
  const open = { kind: "http" } as Open;
  for (const reason of ["done", "cancelled", "cancelled"] as const) {
    opened(open);
    closed(open, reason);
  }
  expect(await value('kas_streams_active{kind="http",hop="inbound"')).toBe(0);
  expect(await value('kas_streams_closed_total{kind="http",hop="inbound",reason="done"')).toBe(1);
  expect(await value('kas_streams_closed_total{kind="http",hop="inbound",reason="cancelled"')).toBe(2);
});

it("counts dropped frames as the links tell their totals", async () => {
  metrics.streams.dropped("peer", 3);
  metrics.streams.dropped("peer", 5);
  expect(await value('kas_link_frames_dropped_total{place="peer"')).toBe(5);
  expect(await value('kas_link_frames_dropped_total{place="agent"')).toBe(0);
});
