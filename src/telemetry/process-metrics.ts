/**
 * What every process of ours says of itself: build, CPU, memory, event loop, and what it holds open (the same numbers the
 * leak gate compares). Collected when asked, never by a timer.
 */
import { collectDefaultMetrics, Gauge, type Registry } from "prom-client";
import { EventLoop } from "./event-loop.ts";
import type { Series } from "./series.ts";

export type ProcessMetricsOptions = {
  readonly prefix: "kas" | "agentk";
  readonly version: string;
  /** False for all but one of several nodes in one process: these numbers belong to the process. */
  readonly wholeProcess: boolean;
};

export interface ProcessMetrics extends Disposable {
  alive(): boolean;
}

/** `before` is what has to be brought up to date first at every collection. */
export function processMetrics(
  registry: Registry,
  series: Series,
  before: () => void,
  { prefix, version, wholeProcess }: ProcessMetricsOptions,
): ProcessMetrics {
  const loop = new EventLoop();
  const bring: (() => void)[] = [before];
  // Registered first, so collected first: what is set here is part of the same answer.
  new Gauge({
    name: `${prefix}_build_info`,
    help: "1, with the version of this process and of Node",
    labelNames: ["version", "node_version"],
    registers: [registry],
    collect() {
      this.set({ version, node_version: process.versions.node }, 1);
      for (const set of bring) set();
    },
  });
  if (wholeProcess) {
    bring.push(openHandles(series, prefix), eventLoopDelays(series, loop));
    collectDefaultMetrics({ register: registry });
  }
  return { alive: () => loop.alive(), [Symbol.dispose]: () => loop[Symbol.dispose]() };
}

function openHandles(series: Series, prefix: string): () => void {
  const handles = series.table(`${prefix}_open_handles`, "What keeps the event loop of this process busy", ["type"]);
  return () => handles.replace(process.getActiveResourcesInfo().map((type) => ({ type, value: 1 })));
}

function eventLoopDelays(series: Series, loop: EventLoop): () => void {
  const help = "How late the event loop was since the last collection";
  const median = series.level("nodejs_eventloop_delay_p50_seconds", `${help}, median`);
  const tail = series.level("nodejs_eventloop_delay_p99_seconds", `${help}, 99th percentile`);
  return () => {
    median.set(loop.delay(50));
    tail.set(loop.delay(99));
    loop.restart();
  };
}
