import { execFile } from "node:child_process";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { promisify } from "node:util";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { wantsTracing } from "../../src/telemetry/tracing.ts";

type SpanJson = {
  name: string;
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  links?: { traceId: string; spanId: string }[];
};
type Export = {
  resourceSpans: {
    resource: { attributes: { key: string; value: { stringValue?: string } }[] };
    scopeSpans: { spans: SpanJson[] }[];
  }[];
};

const CALLER = "a".repeat(32);
const fixture = new URL("./fixtures/traced.ts", import.meta.url).pathname;

async function run(env: Record<string, string>) {
  const options = { env: { PATH: process.env.PATH, ...env }, timeout: 20_000 };
  const { stdout } = await promisify(execFile)(process.execPath, [fixture], options);
  return JSON.parse(stdout);
}

describe("tracing", () => {
  let collector: Server;
  let url = "";
  let exports: Export[] = [];
  let silent = false;

  beforeAll(async () => {
    collector = createServer((req, res) => {
      let body = "";
      req.on("data", (chunk) => {
        body += chunk;
      });
      req.on("end", () => {
        if (silent) return;
        exports.push(JSON.parse(body));
        res.writeHead(200, { "content-type": "application/json" }).end("{}");
      });
    });
    await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
    url = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`;
  });
  beforeEach(() => {
    exports = [];
    silent = false;
  });
  afterAll(async () => {
    collector.closeAllConnections();
    await new Promise((resolve) => collector.close(resolve));
  });

  it("exports real spans: children of trusted callers, new roots with a link for others", async () => {
    const seen = await run({ OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" });

    const resource = exports[0]?.resourceSpans[0]?.resource.attributes ?? [];
    const attributes = Object.fromEntries(resource.map(({ key, value }) => [key, value.stringValue]));
    expect(attributes).toMatchObject({
      "service.name": "kas",
      "service.instance.id": "kas-0",
      "service.version": "1.2.3",
    });
    const all = exports.flatMap((e) => e.resourceSpans.flatMap((r) => r.scopeSpans.flatMap((s) => s.spans)));
    const spans = Object.fromEntries(all.map((span) => [span.name, span]));
    expect(spans.trusted).toMatchObject({ traceId: CALLER, parentSpanId: "b".repeat(16) });
    expect(spans.child).toMatchObject({ traceId: CALLER, parentSpanId: spans.trusted?.spanId });
    expect(spans.untrusted?.traceId).not.toBe(CALLER);
    expect(spans.untrusted?.parentSpanId ?? "").toBe("");
    expect(spans.untrusted?.links).toMatchObject([{ traceId: CALLER, spanId: "b".repeat(16) }]);
    expect(seen).toMatchObject({ active: true, sdk: true, trusted: CALLER, untrusted: spans.untrusted?.traceId });
    expect(seen.sent).toEqual({ traceparent: `00-${CALLER}-${spans.trusted?.spanId}-01`, tracestate: "vendor=1" });
  });

  it("loads nothing of the SDK unless asked, and every request has a trace id all the same", async () => {
    const seen = await run({});

    expect(seen).toMatchObject({ active: false, sdk: false, trusted: CALLER, child: CALLER });
    expect(seen.untrusted).toMatch(/^[0-9a-f]{32}$/);
    expect(seen.untrusted).not.toBe(CALLER);
    expect(seen.sent.traceparent).toBe(`00-${CALLER}-${"b".repeat(16)}-01`);
  });

  it("waits no longer than told for a collector that takes the spans and says nothing", async () => {
    silent = true;
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_EXPORTER_OTLP_PROTOCOL: "http/json", SHUTDOWN_WITHIN: "300" };
    const seen = await run(env);
    expect(seen.stopTook).toBeGreaterThan(290);
    expect(seen.stopTook).toBeLessThan(2_000);
    expect(seen.warnings.join()).toContain("in time");
  });

  it("is asked for by the standard variables only", () => {
    expect(wantsTracing({})).toBe(false);
    expect(wantsTracing({ OTEL_EXPORTER_OTLP_ENDPOINT: "http://x" })).toBe(true);
    expect(wantsTracing({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://x" })).toBe(true);
    expect(wantsTracing({ OTEL_TRACES_EXPORTER: "console" })).toBe(true);
    expect(wantsTracing({ OTEL_TRACES_EXPORTER: "none", OTEL_EXPORTER_OTLP_ENDPOINT: "http://x" })).toBe(false);
    expect(wantsTracing({ OTEL_SDK_DISABLED: "TRUE", OTEL_EXPORTER_OTLP_ENDPOINT: "http://x" })).toBe(false);
    expect(wantsTracing({ OTEL_EXPORTER_OTLP_ENDPOINT: " " })).toBe(false);
  });
});
