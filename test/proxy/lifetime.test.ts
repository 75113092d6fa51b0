/** Drain and end of the proxy; what it records, counts and traces. */
import { ROOT_CONTEXT, type Span, type SpanContext, type SpanOptions, type Tracer, trace } from "@opentelemetry/api";
import { describe, expect, it } from "vitest";
import { kubernetesVerb } from "../../src/proxy/kubernetes-verb.ts";
import { VirtualClock } from "../support/virtual-clock.ts";
import { AUTH, answering, head, RawClient, request, startProxy, until } from "./harness.ts";

describe("a drain", () => {
  it("says Connection: close on every answer and serves what still comes", async () => {
    await using kas = await startProxy(answering(200, "fine"), { clock: new VirtualClock() });
    using before = new RawClient(kas.port).send(request("GET /1"));
    expect(await before.has("fine")).toMatch(/connection: keep-alive/i);
    kas.proxy.drain();
    before.send(request("GET /2"));
    expect(await before.has("close")).toMatch(/connection: close/i);
    await before.over();
    using after = new RawClient(kas.port).send(request("GET /3"));
    expect(await after.over()).toMatch(/connection: close/i);
  });

  it("also ends the sockets of requests that began before it", async () => {
    let answer = () => {};
    await using kas = await startProxy(
      (route, stream) => {
        answer = () => answering(200, "fine")(route, stream);
        return {};
      },
      { clock: new VirtualClock() },
    );
    using client = new RawClient(kas.port).send(request("GET /1"));
    await until(() => kas.router.requests.length === 1, "it is routed");
    kas.proxy.drain();
    answer();
    expect(await client.over()).toMatch(/connection: close[\s\S]+fine/i);
  });

  it("closes idle sockets only later, and never one with a request under way", async () => {
    const clock = new VirtualClock();
    let finish = () => {};
    await using kas = await startProxy(
      (route, stream) => {
        if (route.path === "/fast") return answering(200, "fine")(route, stream);
        stream.head(head(200));
        finish = () => stream.end();
        return {};
      },
      { clock },
    );
    using idle = new RawClient(kas.port).send(request("GET /fast"));
    using busy = new RawClient(kas.port).send(request("GET /slow"));
    await idle.has("fine");
    await busy.has("200 OK");
    kas.proxy.drain();
    clock.advance(14_999);
    for (let turns = 0; turns < 20; turns++) await new Promise(setImmediate);
    expect(kas.proxy.openSockets).toBe(2);
    clock.advance(1);
    await idle.over();
    expect(kas.proxy.activeRequests).toBe(1);
    finish();
    await busy.has("0\r\n\r\n");
  });

  it("is over, with everything closed, when the proxy is disposed", async () => {
    const kas = await startProxy(() => ({}));
    using waiting = new RawClient(kas.port).send(request("GET /1"));
    using idle = new RawClient(kas.port);
    await until(() => kas.proxy.activeRequests === 1 && kas.proxy.openSockets === 2, "both are there");
    await kas.proxy[Symbol.asyncDispose]();
    expect(kas.proxy.activeRequests).toBe(0);
    expect(kas.proxy.openSockets).toBe(0);
    await waiting.over();
    await idle.over();
    await kas[Symbol.asyncDispose]();
  });
});

describe("the record of a request", () => {
  it("says who did what as whom, where it ran, how it ended, and no names or secrets", async () => {
    await using kas = await startProxy(answering(404, "none"));
    const path = "/apis/apps/v1/namespaces/shop/deployments/secret-name?x=secret-value";
    using client = new RawClient(kas.port).send(request(`GET ${path}`, "Authorization: Bearer pat:1:alice\r\n"));
    const all = await client.has("none");
    await until(() => kas.records.length === 1, "it is recorded");
    const traceId = /x-kas-trace-id: (\w{32})/.exec(all)?.[1];
    expect(kas.records[0]).toEqual({
      traceId,
      requestId: "r1",
      agentId: 1,
      callerKind: "pat",
      callerId: "alice",
      as: "alice",
      protocol: "http/1.1",
      method: "GET",
      target: "kubernetes",
      verb: "get",
      resource: "deployments.apps",
      upgrade: false,
      status: 404,
      outcome: "client_error",
      failure: "",
      reason: "",
      bytesIn: 0,
      bytesOut: 4,
      durationMillis: expect.any(Number),
      hop: "local",
      node: "kas-1.1",
    });
    expect(kas.counted).toMatchObject([{ methodClass: "get", outcome: "client_error" }]);
  });

  it.each([
    ["GET", "/api/v1/pods", "list", "pods", "list"],
    ["GET", "/api/v1/namespaces", "list", "namespaces", "list"],
    ["GET", "/api/v1/namespaces/a", "get", "namespaces", "get"],
    ["PUT", "/api/v1/namespaces/a/finalize", "update", "namespaces/finalize", "mutate"],
    ["GET", "/api/v1/namespaces/a/pods/b", "get", "pods", "get"],
    ["GET", "/api/v1/namespaces/a/pods?watch=true", "watch", "pods", "watch"],
    ["GET", "/api/v1/watch/namespaces/a/pods", "watch", "pods", "watch"],
    ["GET", "/api/v1/namespaces/a/pods/b/log?follow=1", "get", "pods/log", "logs"],
    ["POST", "/api/v1/namespaces/a/pods/b/exec?command=x", "create", "pods/exec", "exec"],
    ["GET", "/api/v1/namespaces/a/pods/b/attach", "get", "pods/attach", "exec"],
    ["POST", "/api/v1/namespaces/a/pods/b/portforward", "create", "pods/portforward", "portforward"],
    ["PATCH", "/apis/apps/v1/namespaces/a/deployments/b/scale", "patch", "deployments.apps/scale", "mutate"],
    ["DELETE", "/apis/apps/v1/namespaces/a/deployments", "deletecollection", "deployments.apps", "mutate"],
    ["GET", "/version", "get", "", "other"],
    ["GET", `/api/v1/${"x".repeat(99)}`, "list", "other", "list"],
  ])("calls %s %s %s of %s", (method, path, verb, resource, methodClass) => {
    expect(kubernetesVerb(method, path)).toEqual({ verb, resource, methodClass });
  });
});

class RecordingTracer implements Tracer {
  readonly spans: { name: string; options: SpanOptions; attributes: Record<string, unknown>; ended: number }[] = [];
  startSpan(name: string, options: SpanOptions = {}): Span {
    const kept = { name, options, attributes: {} as Record<string, unknown>, ended: 0 };
    this.spans.push(kept);
    const context: SpanContext = { traceId: "a".repeat(32), spanId: "b".repeat(16), traceFlags: 1 };
    const noop = trace.wrapSpanContext(context);
    return Object.assign(Object.create(noop) as Span, {
      spanContext: () => context,
      isRecording: () => true,
      setAttributes: (attributes: Record<string, unknown>) => Object.assign(kept.attributes, attributes),
      setAttribute: (key: string, value: unknown) => Object.assign(kept.attributes, { [key]: value }),
      setStatus: () => noop,
      end: () => {
        kept.ended += 1;
      },
    });
  }
  startActiveSpan(): never {
    throw new TypeError("not used");
  }
}

describe("the trace of a request", () => {
  it("is a new root that links to what the caller says, and the router's parent", async () => {
    const tracer = new RecordingTracer();
    await using kas = await startProxy(answering(200, "fine"), { tracer });
    const theirs = `00-${"c".repeat(32)}-${"d".repeat(16)}-01`;
    using client = new RawClient(kas.port).send(request("GET /api/v1/pods", `${AUTH}traceparent: ${theirs}\r\n`));
    expect(await client.has("fine")).toContain(`x-kas-trace-id: ${"a".repeat(32)}\r\n`);
    await until(() => kas.records.length === 1, "it is recorded");
    expect(tracer.spans).toMatchObject([
      {
        name: "kas.proxy",
        options: { root: true, links: [{ context: { traceId: "c".repeat(32), spanId: "d".repeat(16) } }] },
        attributes: {
          "http.request.method": "GET",
          "http.response.status_code": 200,
          "kas.agent.id": 1,
          "k8s.resource": "pods",
        },
        ended: 1,
      },
    ]);
    const routed = kas.router.requests[0]?.trace ?? ROOT_CONTEXT;
    expect(trace.getSpanContext(routed)?.traceId).toBe("a".repeat(32));
  });

  it("has a random id when tracing is off, another for each request", async () => {
    await using kas = await startProxy(answering(200, "fine"));
    using client = new RawClient(kas.port).send(request("GET /1") + request("GET /2"));
    await until(() => kas.records.length === 2, "both are recorded");
    const ids = kas.records.map(({ traceId }) => traceId);
    expect(new Set(ids).size).toBe(2);
    expect(client.text).toContain(ids[0]);
    expect(trace.getSpanContext(kas.router.requests[1]?.trace ?? ROOT_CONTEXT)?.traceId).toBe(ids[1]);
  });
});
