/** A real Prometheus in the agent's cluster, queried through the other node: by Rails and by people's dashboards. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Gateway } from "../../src/gen/kas/gateway/v1/gateway_pb.ts";
import { Cluster, noteVersions, printLogsOnFailure } from "./support/cluster.ts";
import { evidence } from "./support/evidence.ts";
import { GatewayClient } from "./support/gateway-client.ts";
import { remoteHop } from "./support/hop.ts";
import { fetchText } from "./support/http.ts";
import type { LeakGate } from "./support/leak-gate.ts";
import { needNats, needPrometheus } from "./support/need.ts";
import { Prometheus } from "./support/prometheus.ts";
import { TOKENS } from "./support/settings.ts";
import { until } from "./support/wait.ts";

const [nats, program] = [await needNats(), await needPrometheus()];

describe.skipIf(!nats || !program)("Prometheus queried through the other node", () => {
  let cluster: Cluster;
  let prometheus: Prometheus;
  let client: GatewayClient;
  let gate: LeakGate;
  let now: number;
  printLogsOnFailure(() => cluster);

  const instant = () => `/api/v1/query?query=${encodeURIComponent('up{job="self"}')}&time=${now}`;
  const range = () => `/api/v1/query_range?query=${encodeURIComponent("up")}&start=${now - 10}&end=${now}&step=1`;
  const direct = async (path: string) => JSON.parse((await fetchText(`${prometheus.url}${path}`)).text);

  beforeAll(async () => {
    cluster = await Cluster.start({ nodes: 2 });
    prometheus = await Prometheus.start(program ?? "", cluster.dir);
    evidence("prometheus answers", await prometheus.version());
    await cluster.agent({ id: 1, on: [1], services: { prometheus: prometheus.url } });
    client = new GatewayClient({ address: cluster.node(0).address("api"), secret: cluster.secrets.api });
    // Old enough that no later scrape changes the answer, young enough that Prometheus was there already.
    await until("a sample that is a second old", async () => {
      now = Math.floor(Date.now() / 1000) - 1;
      return (await direct(instant())).data.result.length === 1;
    });
    await throughRails(instant());
    await throughProxy(instant());
    await noteVersions(cluster);
    gate = await cluster.leakGate();
  });
  afterAll(async () => {
    client?.[Symbol.dispose]();
    await prometheus?.[Symbol.asyncDispose]();
    await cluster?.[Symbol.asyncDispose]();
  });

  async function throughRails(path: string) {
    const target = { kind: { case: "service", value: "prometheus" } } as const;
    const answer = await client.unary(Gateway.method.request, { agentId: 1n, target, method: "GET", path });
    expect(answer.status).toBe(200);
    return JSON.parse(Buffer.from(answer.body).toString());
  }

  async function throughProxy(path: string, method = "GET", body?: string) {
    const headers = {
      ...cluster.credential(1),
      ...(body && { "content-type": "application/x-www-form-urlencoded", "content-length": String(body.length) }),
    };
    const url = cluster.proxyUrl(0, `services/prometheus${path}`);
    const answer = await fetchText(url, { method, headers, ...(body && { body }) });
    expect(answer.status).toBe(200);
    return JSON.parse(answer.text);
  }

  it("answers an instant query of Rails as it answers directly", async () => {
    const routed = await remoteHop(cluster.node(0), async () => await throughRails(instant()));

    expect(routed.data.result).toHaveLength(1);
    expect(routed).toEqual(await direct(instant()));
    await gate.check();
  });

  it("answers a range query of Rails as it answers directly", async () => {
    const routed = await remoteHop(cluster.node(0), async () => await throughRails(range()));

    expect(routed.data.result.length).toBeGreaterThan(0);
    expect(routed).toEqual(await direct(range()));
    await gate.check();
  });

  it("answers instant and range queries of the proxy as it answers directly", async () => {
    await remoteHop(cluster.node(0), async () => {
      expect(await throughProxy(instant())).toEqual(await direct(instant()));
      expect(await throughProxy(range())).toEqual(await direct(range()));
    });
    await gate.check();
  });

  it("answers a query that a dashboard sends as a form", async () => {
    const [path, form = ""] = instant().split("?");
    const routed = await remoteHop(cluster.node(0), async () => await throughProxy(path ?? "", "POST", form));

    expect(routed).toEqual(await direct(instant()));
    await gate.check();
  });

  it("is refused to a caller whose grant does not name it", async () => {
    const url = cluster.proxyUrl(0, `services/prometheus${instant()}`);
    const refused = await fetchText(url, { headers: cluster.credential(1, TOKENS.bob) });

    expect(refused).toMatchObject({ status: 403, headers: { "failure-code": "forbidden" } });
    expect(JSON.parse(refused.text).message).toContain("prometheus");
    await gate.check();
  });
});
