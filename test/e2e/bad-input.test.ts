/** What is wrong is refused at once, with an error that says what to do; nothing is lost, nothing is left behind. */
import { writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Gateway } from "../../src/gen/kas/gateway/v1/gateway_pb.ts";
import { Agentk } from "./support/agentk.ts";
import { Child } from "./support/child.ts";
import { Cluster, noteVersions, printLogsOnFailure } from "./support/cluster.ts";
import { GatewayClient, grpcFailure, jwt } from "./support/gateway-client.ts";
import { localHop, remoteHop } from "./support/hop.ts";
import { type CallOptions, fetchText } from "./support/http.ts";
import { NODE } from "./support/kas-node.ts";
import { kubeconfigYaml } from "./support/kubectl.ts";
import type { LeakGate } from "./support/leak-gate.ts";
import { needNats } from "./support/need.ts";
import { freePort } from "./support/port.ts";
import { ROOT } from "./support/run-dir.ts";
import { TOKENS } from "./support/settings.ts";
import { Upstream } from "./support/upstream.ts";

const nats = await needNats();
const { request } = Gateway.method;

describe.skipIf(!nats)("bad input", () => {
  let cluster: Cluster;
  let upstream: Upstream;
  let gate: LeakGate;
  printLogsOnFailure(() => cluster);

  beforeAll(async () => {
    upstream = await Upstream.listen();
    cluster = await Cluster.start({ nodes: 2 });
    const deadPort = await freePort();
    const kubeconfig = cluster.dir.file("dead.kubeconfig");
    writeFileSync(kubeconfig, kubeconfigYaml(`http://127.0.0.1:${deadPort}`, "token"));
    const services = { upstream: upstream.url, dead: `http://127.0.0.1:${deadPort}` };
    await cluster.agent({ id: 1, on: [1], services, kubeconfig });
    await proxy("services/upstream/hello");
    await noteVersions(cluster);
    gate = await cluster.leakGate();
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await upstream?.[Symbol.asyncDispose]();
  });

  const proxy = async (path: string, options: CallOptions = {}) =>
    await fetchText(cluster.proxyUrl(0, path), { headers: cluster.credential(1), ...options });
  const authorization = (value: string) => ({ headers: { authorization: value } });

  /** A Kubernetes Status of ours; its message. */
  function ours(answer: { readonly status: number; readonly text: string }, http: number): string {
    expect(answer.status, answer.text).toBe(http);
    const body = JSON.parse(answer.text);
    expect(body).toMatchObject({ kind: "Status", status: "Failure", code: http });
    expect(body.message).toMatch(/^kas: /);
    return body.message;
  }
  /** The same request, done right, still works. */
  async function stillServes(): Promise<void> {
    const answer = await remoteHop(cluster.node(0), async () => await proxy("services/upstream/hello"));
    expect(answer).toMatchObject({ status: 200, text: "hello" });
    await gate.check();
  }

  it("answers 404 to Rails for an agent that does not exist", async () => {
    using client = new GatewayClient({ address: cluster.node(0).address("api"), secret: cluster.secrets.api });
    const failure = await grpcFailure(client.unary(request, { agentId: 999n, method: "GET", path: "/version" }));

    expect(failure).toMatchObject({ code: status.NOT_FOUND, failureCode: "agent-unknown" });
    expect(failure.details).toContain("999");
    client[Symbol.dispose]();
    await stillServes();
  });

  it("answers 403 to a person for an agent that is not theirs, whether it exists or not", async () => {
    const [exists, not] = [cluster.credential(2, TOKENS.bob), cluster.credential(999, TOKENS.bob)];
    const messages = [await proxy("version", { headers: exists }), await proxy("version", { headers: not })];

    const [first = "", second = ""] = messages.map((answer) => ours(answer, 403));
    expect(first.replace("2", "N").split("Trace")[0]).toBe(second.replace("999", "N").split("Trace")[0]);
    await stillServes();
  });

  it.each([
    ["a wrong token", "Bearer pat:1:wrong"],
    ["a scheme that is not Bearer", "Basic cm9vdDpyb290"],
    ["a kind of token that does not exist", "Bearer foo:1:admin-token"],
    ["an agent id that is no number", "Bearer pat:one:admin-token"],
    ["an empty token", "Bearer pat:1:"],
  ])("answers 401 to %s", async (_what, value) => {
    const answer = await proxy("version", authorization(value));

    expect(ours(answer, 401)).not.toContain("admin-token");
    expect(answer.headers["gitlab-unauthorized"]).toBe("true");
    await stillServes();
  });

  it("answers 401 to a request without credentials and says which ones it takes", async () => {
    expect(ours(await proxy("version", { headers: {} }), 401)).toMatch(/pat:|Bearer/);
    await stillServes();
  });

  it.each([
    ["expired", { exp: Math.floor(Date.now() / 1000) - 60 }, /expired/i],
    ["for another audience", { aud: "gitlab" }, /aud|gitlab-kas/],
    ["not valid yet", { nbf: Math.floor(Date.now() / 1000) + 600 }, /not.*yet|nbf/i],
  ])("answers UNAUTHENTICATED to a JWT that is %s and says so", async (_what, claims, says) => {
    const token = jwt(cluster.secrets.api, claims);
    using client = new GatewayClient({ address: cluster.node(0).address("api"), secret: "", token });
    const failure = await grpcFailure(client.unary(request, { agentId: 1n, method: "GET", path: "/version" }));

    expect(failure).toMatchObject({ code: status.UNAUTHENTICATED, failureCode: "unauthenticated" });
    expect(failure.details).toMatch(says);
    client[Symbol.dispose]();
    await stillServes();
  });

  it("answers 400 to a path outside its prefix and to one that is malformed", async () => {
    const base = cluster.proxyUrl(0, "").replace("/k8s-proxy/", "");
    const outside = await fetchText(`${base}/api/v1/pods`, { headers: cluster.credential(1) });
    const malformed = await proxy("api/v1/%zz");

    expect(ours(outside, 400)).toContain("/k8s-proxy/");
    expect(ours(malformed, 400)).toMatch(/path/);
    await stillServes();
  });

  it("answers 431 to a header that is too large", async () => {
    const headers = { ...cluster.credential(1), "x-large": "x".repeat(100 * 1024) };
    expect((await proxy("version", { headers })).status).toBe(431);
    await stillServes();
  });

  it("answers 400 to bytes that are not HTTP", async () => {
    const [host = "", port] = cluster.node(0).address("kubernetes_api").split(":");
    const socket = connect(Number(port), host);
    socket.end("this is not HTTP\r\n\r\n");

    expect(await text(socket)).toMatch(/^HTTP\/1\.1 400 /);
    await stillServes();
  });

  it("answers 502 when the agent cannot reach the API server, naming it and the agent", async () => {
    const answer = await remoteHop(cluster.node(0), async () => await proxy("version"));

    expect(answer.headers["failure-code"]).toBe("upstream-unreachable");
    expect(answer.headers["retry-after"]).toBeUndefined();
    expect(ours(answer, 502)).toMatch(/ECONNREFUSED|refused/);
    await stillServes();
  });

  it("answers 403 for a service that the agent does not offer and for one that the caller may not use", async () => {
    expect(ours(await proxy("services/nothing/"), 403)).toContain("nothing");
    const bob = await proxy("services/upstream/hello?id=bob", { headers: cluster.credential(1, TOKENS.bob) });
    expect(ours(bob, 403)).toContain("upstream");
    expect(upstream.executions.has("bob")).toBe(false);

    // The grant names it, the agent does not offer it.
    const absent = await proxy("services/prometheus/api/v1/query");
    expect([403, 404]).toContain(absent.status);
    expect(ours(absent, absent.status)).toMatch(/prometheus[\s\S]*--service/);
    await stillServes();
  });

  it("refuses an agent with a wrong token, which says what to do", async () => {
    const kas = `grpc://${cluster.node(0).address("agent")}`;
    await using agent = await Agentk.spawn(cluster.dir, { id: 1, kas, token: "wrong" });
    const said = await agent.child.whileAlive("an error about the token", () =>
      agent.child
        .stderr()
        .split("\n")
        .find((line) => /unauthenticated|token/i.test(line)),
    );

    expect(said).toMatch(/token/i);
    expect(agent.connections).toEqual([]);
    await agent.child.stop();
    await stillServes();
  });

  it("refuses to start with a configuration file of three faults and names each with its line", async () => {
    const file = cluster.dir.file("faulty.yaml");
    const lines = [
      "agent:",
      "  listen:",
      "    adress: 127.0.0.1:0",
      "cluster:",
      "  homes: 17",
      "drain_timeout: soon",
      "observability:",
      "  listen: { address: 127.0.0.1:0 }",
    ];
    writeFileSync(file, lines.join("\n"));
    const args = [join(ROOT, "bin", "kas.js"), "serve", "--configuration-file", file];
    await using kas = new Child({ name: "kas-faulty", command: NODE, args, dir: cluster.dir });

    expect((await kas.exited).code).not.toBe(0);
    const said = kas.stderr();
    for (const fault of [/3\b[\s\S]*adress[\s\S]*address/, /5\b[\s\S]*homes/, /6\b[\s\S]*drain_timeout/])
      expect(said).toMatch(fault);
    expect(kas.lines).toEqual([]);
    await stillServes();
  });

  it("keeps the old static file when the new one is faulty", async () => {
    cluster.writeStaticFile({ agents: [{ id: "one", name: "x", project_id: 1, tokens: [] }] });
    const node = cluster.node(0);
    await node.child.whileAlive("a complaint about the static file", () =>
      /agents\.yaml/.test(node.child.stderr()) ? true : undefined,
    );
    await stillServes();
  });

  it("serves its own node's agent as before after all this", async () => {
    const url = cluster.proxyUrl(1, "services/upstream/hello");
    const answer = await localHop(
      cluster.node(1),
      async () => await fetchText(url, { headers: cluster.credential(1) }),
    );

    expect(answer).toMatchObject({ status: 200, text: "hello" });
    await gate.check();
  });
});
