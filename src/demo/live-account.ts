/** While the demo stays up: one line for each request that comes in through the proxy, as soon as its trace is whole. */
import type { Collector } from "./collector.ts";
import { millis, type Printer } from "./print.ts";
import { columnsOf } from "./requests.ts";
import { accountOf, isEntry, type Span } from "./span.ts";

/** The other processes' spans may come later than the first. */
const SPANS_WITHIN = 500;

/** `together`: one process has all nodes, and its spans do not say which of them it was. */
export function showRequests(collector: Collector, print: Printer, together: boolean): void {
  const since = Date.now();
  collector.onSpan = (span) => {
    if (!isEntry(span) || span.began < since) return;
    const ingress = together ? "kas" : span.instance;
    setTimeout(() => show(collector, print, span, ingress), SPANS_WITHIN);
  };
}

function show(collector: Collector, print: Printer, entry: Span, ingress: string): void {
  const agent = `agent-${entry.attributes.get("kas.agent.id") ?? "?"}`;
  const account = accountOf(collector.trace(entry.traceId), { ingress, agent, target: "API" });
  const status = entry.attributes.get("http.response.status_code") ?? "";
  const verb = entry.attributes.get("http.request.method") ?? "";
  const columns = account ? columnsOf({ ingress, agent }, account) : [ingress, `= ${millis(entry.millis)}`];
  print.line(`    ${[...columns, verb, status].filter((column) => column !== "").join("  ")}`);
}
