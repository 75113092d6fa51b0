/** Rails' API on another node than the agent's: a grpc-js client with a JWT against real processes. */

import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { create } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  Gateway,
  type StreamRequest,
  StreamRequestSchema,
  type StreamResponse,
  type WatchAgentsResponse,
} from "../../src/gen/kas/gateway/v1/gateway_pb.ts";
import { Cluster, noteVersions, printLogsOnFailure } from "./support/cluster.ts";
import { GatewayClient, grpcFailure } from "./support/gateway-client.ts";
import { remoteHop } from "./support/hop.ts";
import type { LeakGate } from "./support/leak-gate.ts";
import { needNats } from "./support/need.ts";
import { Upstream } from "./support/upstream.ts";
import { until } from "./support/wait.ts";

const nats = await needNats();
const ECHO = "/kas.agent.v1.Echo/Echo";
const MIB = 1024 * 1024;
const { request, stream, listAgents, watchAgents, explainRoute } = Gateway.method;
const service = { kind: { case: "service", value: "upstream" } } as const;

describe.skipIf(!nats)("Rails calls the other node", () => {
  let cluster: Cluster;
  let upstream: Upstream;
  let client: GatewayClient;
  let gate: LeakGate;
  printLogsOnFailure(() => cluster);
  const services = () => ({ upstream: upstream.url });
  const head = (path: string, more: object = {}) => ({
    agentId: 1n,
    target: service,
    method: "GET",
    path,
    actor: "user:root",
    ...more,
  });

  beforeAll(async () => {
    upstream = await Upstream.listen();
    cluster = await Cluster.start({ nodes: 2 });
    await cluster.agent({ id: 1, on: [1], services: services(), env: { AGENTK_ENABLE_ECHO: "true" } });
    client = new GatewayClient({ address: cluster.node(0).address("api"), secret: cluster.secrets.api });
    await client.unary(request, head("/hello"));
    await noteVersions(cluster);
    gate = await cluster.leakGate();
  });
  afterAll(async () => {
    client?.[Symbol.dispose]();
    await cluster?.[Symbol.asyncDispose]();
    await upstream?.[Symbol.asyncDispose]();
  });

  it("sends one request with `Request`", async () => {
    const answer = await remoteHop(cluster.node(0), async () => await client.unary(request, head("/hello?id=unary")));

    expect(answer.status).toBe(200);
    expect(Buffer.from(answer.body).toString()).toBe("hello");
    expect(upstream.executions.get("unary")).toBe(1);
    await gate.check();
  });

  it("passes an answer of 404 on as an answer", async () => {
    const answer = await remoteHop(cluster.node(0), async () => await client.unary(request, head("/nowhere")));

    expect(answer).toMatchObject({ status: 404 });
    await gate.check();
  });

  it("sends and receives 20 MB with `Stream`, unchanged", async () => {
    const body = randomBytes(20 * MIB);
    const parts = await remoteHop(cluster.node(0), async () => {
      const call = client.bidi(stream);
      const answered = collect(call);
      call.write(start(head("/upload", { method: "POST" })));
      for (let at = 0; at < body.length; at += 128 * 1024) {
        if (!call.write(piece(body.subarray(at, at + 128 * 1024)))) await once(call, "drain");
      }
      call.end();
      return await answered;
    });

    const sha256 = createHash("sha256").update(body).digest("hex");
    expect(parts.status).toBe(200);
    expect(JSON.parse(parts.body.toString())).toEqual({ sha256, bytes: body.length });
    await gate.check();
  });

  it("carries an upgrade over `Stream` and echoes its bytes", async () => {
    await remoteHop(cluster.node(0), async () => {
      const call = client.bidi(stream);
      const seen: StreamResponse[] = [];
      call.on("data", (part: StreamResponse) => seen.push(part));
      call.on("error", () => {});
      const headers = [
        { name: "connection", value: "Upgrade" },
        { name: "upgrade", value: "echo" },
      ];
      call.write(start(head("/echo", { headers })));
      await until("101", () => seen[0]?.part.case === "head" && seen[0].part.value.status === 101);
      call.write(piece(Buffer.from("over the upgraded connection")));
      await until("the echo", () => bodyOf(seen).toString() === "over the upgraded connection");
      call.end();
      await until("the end of the call", () => call.destroyed || call.readableEnded);
    });
    await gate.check();
  });

  it("lists agents of all nodes and says that the list is complete", async () => {
    const list = await client.unary(listAgents, { projectIds: [10n] });

    expect(list).toMatchObject({ complete: true, missingNodes: [], nextPageToken: "" });
    expect(list.agents).toHaveLength(1);
    expect(list.agents[0]).toMatchObject({ agentId: 1n, name: "agent-1", projectId: 10n, transport: "grpc" });
    expect(list.agents[0]?.node).toMatch(/^kas-1/);
    expect(list.agents[0]?.services).toEqual(["upstream"]);
    expect(await client.unary(listAgents, { agentIds: [2n] })).toMatchObject({ agents: [], complete: true });
    await gate.check();
  });

  it("watches agents: a snapshot first, then who connects and who leaves", async () => {
    const seen: WatchAgentsResponse[] = [];
    const changes = () => seen.map(({ change }) => change.case);
    const call = client.serverStream(watchAgents, {});
    call.on("data", (change: WatchAgentsResponse) => seen.push(change));
    call.on("error", () => {});
    await until("the snapshot", () => changes()[0] === "snapshot");

    const second = await cluster.agent({ id: 2, on: [1] });
    await until("the newcomer", () => changes().includes("connected"));
    await second.child.stop();
    await until("its leave", () => changes().includes("disconnected"));
    call.cancel();

    expect(changes()).toEqual(["snapshot", "connected", "disconnected"]);
    const [snapshot, connected, disconnected] = seen.map(({ change }) => change);
    expect(snapshot).toMatchObject({ value: { last: true, complete: true, agents: [{ agentId: 1n }] } });
    expect(connected).toMatchObject({ value: { agentId: 2n, name: "agent-2" } });
    expect(disconnected).toMatchObject({ value: { agentId: 2n } });
    await gate.check();
  });

  it("explains the route that a request would take", async () => {
    const route = await client.unary(explainRoute, { agentId: 1n });

    expect(route.homes).toHaveLength(2);
    expect(route.members.map(({ state }) => state)).toEqual(["alive", "alive"]);
    expect(route.connections.map(({ node }) => node.split(".")[0])).toContain("kas-1");
    expect(route.verdict).toMatch(/kas-1/);
    await gate.check();
  });

  it("carries a gRPC message of 4 MiB each way to a method of the agent", async () => {
    const message = randomBytes(4 * MIB);
    const answer = await remoteHop(cluster.node(0), async () => await client.rawUnary(1, ECHO, message));

    expect(answer.equals(message)).toBe(true);
    await gate.check();
  });

  it("carries 50 gRPC messages of 4 MiB each way at once", async () => {
    const messages = Array.from({ length: 50 }, (_, n) => Buffer.alloc(4 * MIB, `message ${n} `));
    const answers = await remoteHop(
      cluster.node(0),
      async () => await Promise.all(messages.map(async (message) => await client.rawUnary(1, ECHO, message))),
    );

    expect(answers.map((answer, n) => answer.equals(messages[n] ?? Buffer.alloc(0)))).toEqual(Array(50).fill(true));
    await gate.check();
  });

  it("tells a method that the agent does not serve apart from an agent that is not there", async () => {
    const method = await remoteHop(
      cluster.node(0),
      async () => await grpcFailure(client.rawUnary(1, "/kas.agent.v1.Echo/Nothing", Buffer.alloc(0))),
    );
    const unknown = await grpcFailure(client.unary(request, { ...head("/hello"), agentId: 999n }));

    expect(method).toMatchObject({ code: status.UNIMPLEMENTED, failureCode: "" });
    expect(unknown).toMatchObject({ code: status.NOT_FOUND, failureCode: "agent-unknown" });
    expect(unknown.details).toContain("999");
    await gate.check();
  });
});

const start = (value: object): StreamRequest => create(StreamRequestSchema, { part: { case: "head", value } });
const piece = (value: Uint8Array): StreamRequest => create(StreamRequestSchema, { part: { case: "data", value } });
const bodyOf = (parts: readonly StreamResponse[]) =>
  Buffer.concat(parts.flatMap(({ part }) => (part.case === "data" ? [part.value] : [])));

/** The whole answer of a `Stream` call. */
async function collect(
  call: AsyncIterable<StreamResponse>,
): Promise<{ readonly status: number; readonly body: Buffer }> {
  const parts: StreamResponse[] = [];
  for await (const part of call) parts.push(part);
  const first = parts[0]?.part;
  return { status: first?.case === "head" ? first.value.status : 0, body: bodyOf(parts) };
}
