/** One trace of one request through all processes, as a collector receives it. */
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Gateway } from "../../src/gen/kas/gateway/v1/gateway_pb.ts";
import { Cluster, noteVersions, printLogsOnFailure } from "./support/cluster.ts";
import { GatewayClient } from "./support/gateway-client.ts";
import { remoteHop } from "./support/hop.ts";
import { fetchText } from "./support/http.ts";
import type { LeakGate } from "./support/leak-gate.ts";
import { needNats } from "./support/need.ts";
import { type CollectedSpan, OtlpCollector } from "./support/otlp-collector.ts";
import { Upstream } from "./support/upstream.ts";
import { until } from "./support/wait.ts";

const nats = await needNats();
const newTrace = () => ({ traceId: randomBytes(16).toString("hex"), spanId: randomBytes(8).toString("hex") });

describe.skipIf(!nats)("one trace of a request", () => {
  let cluster: Cluster;
  let upstream: Upstream;
  let collector: OtlpCollector;
  let gate: LeakGate;
  printLogsOnFailure(() => cluster);

  beforeAll(async () => {
    upstream = await Upstream.listen();
    collector = await OtlpCollector.listen();
    cluster = await Cluster.start({ nodes: 2, env: collector.env });
    await cluster.agent({ id: 1, on: [1], services: { upstream: upstream.url }, env: collector.env });
    const url = cluster.proxyUrl(0, "services/upstream/hello");
    await fetchText(url, { headers: cluster.credential(1) });
    await noteVersions(cluster);
    await until("the warm-up's spans", () => collector.spans.some(({ service }) => service === "agentk"));
    gate = await cluster.leakGate();
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await collector?.[Symbol.asyncDispose]();
    await upstream?.[Symbol.asyncDispose]();
  });

  /** The span of the request that the agent made to its upstream, with all its ancestors. */
  const chain = async (match: (span: CollectedSpan) => boolean): Promise<readonly CollectedSpan[]> =>
    await until("a whole trace", () => {
      const last = collector.spans.find((span) => span.service === "agentk" && span.kind === "CLIENT" && match(span));
      const spans = last ? collector.ancestry(last) : [];
      return spans.some(({ service, kind, name }) => service === "kas" && kind === "SERVER" && name !== "kas.peer.open")
        ? spans
        : undefined;
    });

  function expectEveryHop(spans: readonly CollectedSpan[]): void {
    const steps = spans.map(({ service, name, kind }) => `${service} ${name} ${kind}`);
    const services = spans.map(({ service }) => service);
    const instances = new Set(spans.filter(({ service }) => service === "kas").map(({ instance }) => instance));
    expect(new Set(spans.map(({ traceId }) => traceId)).size, "one trace id").toBe(1);
    expect(services.lastIndexOf("agentk"), `the agent's spans are below kas's: ${steps}`).toBeLessThan(
      services.indexOf("kas"),
    );
    expect(instances.size, `two kas processes: ${steps}`).toBe(2);
    const opens = spans.filter(({ name }) => name === "kas.peer.open");
    expect(
      opens.map(({ kind }) => kind),
      "peer hop, the holder's span below the ingress's",
    ).toEqual(["SERVER", "CLIENT"]);
    expect(
      steps.some((step) => step.startsWith("agentk") && step.endsWith("SERVER")),
      `agent: ${steps}`,
    ).toBe(true);
  }

  it("goes on from Rails through ingress, peer hop, holder and agent to the API request", async () => {
    const { traceId, spanId } = newTrace();
    using client = new GatewayClient({
      address: cluster.node(0).address("api"),
      secret: cluster.secrets.api,
      metadata: { traceparent: `00-${traceId}-${spanId}-01` },
    });
    const target = { kind: { case: "service", value: "upstream" } } as const;
    await remoteHop(
      cluster.node(0),
      async () => await client.unary(Gateway.method.request, { agentId: 1n, target, method: "GET", path: "/hello" }),
    );

    const spans = await chain((span) => span.traceId === traceId);
    expectEveryHop(spans);
    expect(spans.at(-1)?.parentId, "the root continues Rails' span").toBe(spanId);
    client[Symbol.dispose]();
    await gate.check();
  });

  it("is a new one for kubectl, linked to what kubectl sent", async () => {
    const { traceId, spanId } = newTrace();
    const headers = { ...cluster.credential(1), traceparent: `00-${traceId}-${spanId}-01` };
    const answer = await remoteHop(
      cluster.node(0),
      async () => await fetchText(cluster.proxyUrl(0, "services/upstream/hello"), { headers }),
    );

    const own = String(answer.headers["x-kas-trace-id"]);
    const spans = await chain((span) => span.traceId === own);
    expectEveryHop(spans);
    expect(own).not.toBe(traceId);
    expect(spans.at(-1)?.parentId).toBe("");
    expect(spans.at(-1)?.links).toEqual([traceId]);
    await gate.check();
  });
});
