import { status } from "@grpc/grpc-js";
import { context, type Span, type SpanOptions, type Tracer, trace } from "@opentelemetry/api";
import { afterEach, describe, expect, it } from "vitest";
import { Gateway } from "../../src/gen/kas/gateway/v1/gateway_pb.ts";
import { failureCode, startRails, type TestRails, until } from "./rails.ts";

const TRACE = "0af7651916cd43dd8448eb211c80319c";

/** Remembers the spans that were begun and how they ended. */
function recordingTracer() {
  const spans: {
    name: string;
    parent: string;
    attributes: Record<string, unknown>;
    ended: boolean;
    options: SpanOptions;
  }[] = [];
  const startSpan = (name: string, options: SpanOptions = {}, parent = context.active()): Span => {
    const traceId = trace.getSpanContext(parent)?.traceId ?? "f".repeat(32);
    const record = { name, parent: traceId, attributes: { ...options.attributes }, ended: false, options };
    spans.push(record);
    const span = trace.wrapSpanContext({ traceId, spanId: "b".repeat(16), traceFlags: 1 });
    return Object.assign(span, {
      setAttribute(key: string, value: unknown) {
        record.attributes[key] = value as never;
        return span;
      },
      end() {
        record.ended = true;
      },
    });
  };
  return { spans, tracer: { startSpan } as unknown as Tracer };
}

describe("the Rails listener", () => {
  let rails: TestRails;
  afterEach(async () => {
    await rails[Symbol.asyncDispose]();
    expect(rails.sockets.size).toBe(0);
  });

  it("lets in a token that is checked now or later, and nobody else", async () => {
    rails = await startRails();
    rails.router.on("/", (served) => {
      served.head(204);
      served.end();
    });

    const later = await rails.request({ path: "/" }, { token: "good-later" });
    expect(later.status.code).toBe(status.OK);
    for (const token of ["", "expired", "wrong-audience", "alg-none"]) {
      for (const method of [Gateway.method.request, Gateway.method.stream, Gateway.method.listAgents]) {
        const { status: ended } = await rails.call(method, [{}], { token });
        expect([ended.code, failureCode(ended)]).toEqual([status.UNAUTHENTICATED, "unauthenticated"]);
        expect(ended.details).toContain(token ? `JWT validation failed: ${token}` : "authorization: bearer <JWT>");
      }
    }
    const basic = await rails.request({ path: "/" }, { token: "", metadata: { authorization: "Basic good" } });
    expect(basic.status.code).toBe(status.UNAUTHENTICATED);
    expect(rails.router.requests).toHaveLength(1);
  });

  it("hides what a bug says, and reports it", async () => {
    rails = await startRails({
      tokens: {
        verify() {
          throw new TypeError("secret detail");
        },
      },
    });

    const { status: ended } = await rails.request({ path: "/" });

    expect(ended).toMatchObject({ code: status.INTERNAL, details: "internal error" });
    expect(rails.bugs).toMatchObject([{ message: "secret detail" }]);
  });

  it("continues the caller's trace and names it in errors", async () => {
    const { spans, tracer } = recordingTracer();
    rails = await startRails({ tracer });
    const metadata = { traceparent: `00-${TRACE}-b7ad6b7169203331-01` };

    const { status: ended } = await rails.request({ agentId: 8n, path: "/" }, { metadata });

    expect(ended.details).toBe(`agent 8 is not connected. Trace ID: ${TRACE}`);
    expect(ended.metadata.get("x-kas-trace-id")).toEqual([TRACE]);
    await until(() => spans[0]?.ended === true);
    expect(spans).toMatchObject([
      {
        name: "kas.gateway.v1.Gateway/Request",
        parent: TRACE,
        attributes: {
          "rpc.system.name": "grpc",
          "rpc.method": "kas.gateway.v1.Gateway/Request",
          "rpc.status_code": "UNAVAILABLE",
          "error.type": "agent-offline",
          "kas.agent.id": 8,
        },
      },
    ]);
    const [routed] = rails.router.requests;
    expect(routed && trace.getSpanContext(routed.trace)?.traceId).toBe(TRACE);
  });

  it("counts every call once, by method and status", async () => {
    rails = await startRails();
    await rails.request({ path: "bad" });
    await rails.call(Gateway.method.explainRoute, [{ agentId: 7n }]);
    await rails.bytes("/made.Up/Name", [], { metadata: { "kas-agent-id": "8" } });

    await until(() => rails.called.length === 3);
    expect(rails.called).toEqual([
      { method: "kas.gateway.v1.Gateway/Request", status: "INVALID_ARGUMENT" },
      { method: "kas.gateway.v1.Gateway/ExplainRoute", status: "OK" },
      { method: "_OTHER", status: "UNAVAILABLE" },
    ]);
  });
});
