import { ROOT_CONTEXT, SpanKind, trace } from "@opentelemetry/api";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { injectTrace, parseTrace, startChild, startIncoming, traceFields, traceIdOf } from "../src/trace.ts";

const traceparent = `00-${"1".repeat(32)}-${"2".repeat(16)}-01`;

describe("trace context while tracing is off", () => {
  it("goes on through spans and over the wire where the caller is trusted", () => {
    const { context } = startIncoming("x", SpanKind.SERVER, { traceparent, tracestate: "a=1,b=2", trusted: true });
    const child = startChild("y", SpanKind.CLIENT, context);
    expect(injectTrace(child.context)).toEqual({ traceparent, tracestate: "a=1,b=2" });
    expect(traceFields(child.context)).toEqual({ trace_id: "1".repeat(32), span_id: "2".repeat(16) });
  });

  it("is minted anew for everybody else, never twice the same, and not sampled", () => {
    const ids = Array.from({ length: 100 }, (_, i) => {
      const incoming = { traceparent: i % 2 ? traceparent : "", tracestate: "", trusted: false };
      const { context } = startIncoming("x", SpanKind.SERVER, incoming);
      expect(injectTrace(context).traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
      return traceIdOf(context);
    });
    expect(new Set(ids).size).toBe(100);
    expect(ids).not.toContain("1".repeat(32));
  });

  it("is minted where a trusted caller sends none", () => {
    const { context } = startIncoming("x", SpanKind.SERVER, { traceparent: "", tracestate: "", trusted: true });
    expect(traceIdOf(context)).toMatch(/^[0-9a-f]{32}$/);
  });

  it("is empty where there is none", () => {
    expect(traceIdOf(ROOT_CONTEXT)).toBe("");
    expect(injectTrace(ROOT_CONTEXT)).toEqual({ traceparent: "", tracestate: "" });
    expect(traceFields(ROOT_CONTEXT)).toEqual({});
  });

  it("refuses what the specification forbids, and keeps no tracestate above 512 bytes", () => {
    const parse = (header: string, tracestate = "") => parseTrace({ traceparent: header, tracestate });
    expect(parse(traceparent)?.traceId).toBe("1".repeat(32));
    expect(parse(`01-${"1".repeat(32)}-${"2".repeat(16)}-01-later`)?.traceFlags).toBe(1);
    for (const bad of [
      "",
      traceparent.toUpperCase().replace("1", "A"),
      `ff${traceparent.slice(2)}`,
      `${traceparent}-more`,
      `00-${"0".repeat(32)}-${"2".repeat(16)}-01`,
      `00-${"1".repeat(32)}-${"0".repeat(16)}-01`,
      `00-${"1".repeat(31)}-${"2".repeat(16)}-01`,
    ]) {
      expect(parse(bad), bad).toBeNull();
    }
    expect(parse(traceparent, `a=${"x".repeat(600)}`)?.traceState).toBeUndefined();
  });

  it("never throws, whatever the headers hold", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), fc.boolean(), (header, tracestate, trusted) => {
        const { context } = startIncoming("x", SpanKind.SERVER, { traceparent: header, tracestate, trusted });
        expect(trace.getSpan(context)).toBeDefined();
        expect(traceIdOf(context)).toMatch(/^[0-9a-f]{32}$/);
      }),
    );
  });
});
