/** What a supervisor tells of its own process (`worker="supervisor"`) and of its workers. */
import { Registry } from "prom-client";
import { processMetrics } from "../../telemetry/process-metrics.ts";
import { Series } from "../../telemetry/series.ts";
import { VERSION } from "../../version.ts";
import type { WorkerProcess } from "./worker-process.ts";

type Watched = Pick<WorkerProcess, "index" | "readiness">;

export function createSupervisorMetrics(node: string, workers: number) {
  const registry = new Registry();
  registry.setDefaultLabels({ node, worker: "supervisor" });
  const series = new Series(registry);
  const collectors: (() => void)[] = [];
  const collect = () => {
    for (const bring of collectors) bring();
  };
  const own = processMetrics(registry, series, collect, { prefix: "kas", version: VERSION, wholeProcess: true });
  const names = Array.from({ length: workers }, (_, index) => String(index));
  const up = series.table("kas_worker_up", "1 while this worker is ready", ["worker"]);
  const restarts = series.counts("kas_worker_restarts_total", "Workers that ended by themselves", "worker", names);
  return {
    registry,
    alive: () => own.alive(),
    onCollect: (bring: () => void): void => void collectors.push(bring),
    restarted: (worker: number): void => restarts[String(worker)]?.inc(),
    watch: (all: readonly Watched[]): void =>
      void collectors.push(() =>
        up.replace(all.map(({ index, readiness }) => ({ worker: String(index), value: readiness.ready ? 1 : 0 }))),
      ),
    certificateExpiry: series.table(
      "kas_tls_certificate_expiry_timestamp_seconds",
      "When the certificate of a listener expires",
      ["listener"],
    ),
    /** Its only listener has no limit. */
    limits: { handshakes: { inc() {} } },
    [Symbol.dispose](): void {
      own[Symbol.dispose]();
      registry.clear();
    },
  };
}
