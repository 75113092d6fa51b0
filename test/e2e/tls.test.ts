/** TLS on every listener and between the nodes, and what an agent says that does not trust it. */

import { once } from "node:events";
import { connect } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Gateway } from "../../src/gen/kas/gateway/v1/gateway_pb.ts";
import { Agentk } from "./support/agentk.ts";
import { makeCertificates } from "./support/certificates.ts";
import { Cluster, noteVersions, printLogsOnFailure } from "./support/cluster.ts";
import { GatewayClient } from "./support/gateway-client.ts";
import { remoteHop } from "./support/hop.ts";
import { fetchText } from "./support/http.ts";
import { LISTENERS } from "./support/kas-node.ts";
import type { LeakGate } from "./support/leak-gate.ts";
import { needNats } from "./support/need.ts";
import { Upstream } from "./support/upstream.ts";

const nats = await needNats();

describe.skipIf(!nats)("TLS on every listener", () => {
  let cluster: Cluster;
  let upstream: Upstream;
  let gate: LeakGate;
  printLogsOnFailure(() => cluster);
  const ca = () => cluster.certificates?.ca ?? "";

  beforeAll(async () => {
    upstream = await Upstream.listen();
    cluster = await Cluster.start({ nodes: 2, tls: "all", env: { OWN_PRIVATE_API_HOST: "localhost" } });
    await cluster.agent({ id: 1, on: [1], services: { upstream: upstream.url } });
    await get();
    await noteVersions(cluster);
    gate = await cluster.leakGate();
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await upstream?.[Symbol.asyncDispose]();
  });

  const get = async () =>
    await fetchText(cluster.proxyUrl(0, "services/upstream/hello"), { headers: cluster.credential(1), ca: ca() });

  it.each(LISTENERS)("serves %s with the certificate of its settings", async (listener) => {
    const [host = "", port] = cluster.node(0).address(listener).split(":");
    const socket = connect({ host, port: Number(port), ca: ca(), ALPNProtocols: ["h2", "http/1.1"] });
    await once(socket, "secureConnect");

    expect(socket.authorized).toBe(true);
    expect(socket.getPeerCertificate().subject.CN).toBe("kas.test");
    socket.destroy();
    await gate.check();
  });

  it("carries a request of the proxy from node to node to an agent that dialled grpcs://", async () => {
    const answer = await remoteHop(cluster.node(0), get);

    expect(answer).toMatchObject({ status: 200, text: "hello" });
    await gate.check();
  });

  it("carries a request of Rails", async () => {
    using client = new GatewayClient({
      address: cluster.node(0).address("api"),
      secret: cluster.secrets.api,
      ca: ca(),
    });
    const target = { kind: { case: "service", value: "upstream" } } as const;
    const message = { agentId: 1n, target, method: "GET", path: "/hello" };
    const answer = await remoteHop(cluster.node(0), async () => await client.unary(Gateway.method.request, message));

    expect(Buffer.from(answer.body).toString()).toBe("hello");
    client[Symbol.dispose]();
    await gate.check();
  });

  it("lets an agent in over wss://", async () => {
    const flags = [`--kas-ca-cert-file=${cluster.certificates?.caFile}`];
    const kas = `wss://${cluster.node(1).address("agent")}/`;
    await using agent = await Agentk.start(cluster.dir, { id: 2, kas, flags, services: { upstream: upstream.url } });
    const url = cluster.proxyUrl(0, "services/upstream/hello");
    const headers = cluster.credential(2);
    const answer = await remoteHop(cluster.node(0), async () => await fetchText(url, { headers, ca: ca() }));

    expect(answer).toMatchObject({ status: 200, text: "hello" });
    await agent.child.stop();
    await gate.check();
  });

  it("is refused by an agent with another authority, which says what to do", async () => {
    const other = await makeCertificates(cluster.dir, "other");
    const kas = `grpcs://${cluster.node(0).address("agent")}`;
    await using agent = await Agentk.spawn(cluster.dir, { id: 3, kas, flags: [`--kas-ca-cert-file=${other.caFile}`] });
    const said = await agent.child.whileAlive("an error about the certificate", () =>
      agent.child
        .stderr()
        .split("\n")
        .find((line) => /certificate/i.test(line)),
    );

    expect(said).toContain("--kas-ca-cert-file");
    expect(agent.connections).toEqual([]);
    await agent.child.stop();
    await gate.check();
  });
});
