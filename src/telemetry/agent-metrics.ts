/** The metrics of agentk, on the cluster's side. */
import { Registry } from "prom-client";
import { processMetrics } from "./process-metrics.ts";
import { Series } from "./series.ts";

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const CODES = ["1xx", "2xx", "3xx", "4xx", "5xx", "error"] as const;

export type AgentMetrics = ReturnType<typeof createAgentMetrics>;

export function createAgentMetrics({ version, wholeProcess = true }: { version: string; wholeProcess?: boolean }) {
  const registry = new Registry();
  const series = new Series(registry);
  const collectors: (() => void)[] = [];
  const collect = () => {
    for (const bring of collectors) bring();
  };
  const own = processMetrics(registry, series, collect, { prefix: "agentk", version, wholeProcess });
  const requests = series.counts("agentk_upstream_requests_total", "Requests sent on in the cluster", "code", CODES);
  return {
    registry,
    onCollect: (bring: () => void): void => void collectors.push(bring),
    alive: () => own.alive(),
    kasConnected: series.level("agentk_kas_connected", "1 while a link to kas is up"),
    reconnects: series.count("agentk_reconnects_total", "Times a new link to kas was dialled after one was lost"),
    tokenReloads: series.count("agentk_token_reload_total", "Times the agent's token was read anew"),
    streamsActive: series.level("agentk_streams_active", "Streams open now"),
    upstreamDuration: series.spread(
      "agentk_upstream_duration_seconds",
      "From arrival here to the end of the answer",
      SECONDS,
    ),
    /** `status` 0: no answer came. */
    upstreamAnswered: (status: number): void => requests[codeClass(status)].inc(),
    [Symbol.dispose](): void {
      collectors.length = 0;
      own[Symbol.dispose]();
      registry.clear();
    },
  };
}

function codeClass(status: number): (typeof CODES)[number] {
  const index = Math.floor(status / 100) - 1;
  return index >= 0 && index < 5 ? (CODES[index] ?? "error") : "error";
}
