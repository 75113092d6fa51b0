import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  Gateway,
  type WatchAgentsResponse,
  WatchAgentsResponseSchema,
} from "../../src/gen/kas/gateway/v1/gateway_pb.ts";
import { methodPath } from "../../src/grpc/service.ts";
import { agent, failureCode, startRails, statusOf, type TestRails, until } from "./rails.ts";

const { listAgents, watchAgents, explainRoute } = Gateway.method;

describe("what is connected", () => {
  let rails: TestRails;
  beforeEach(async () => {
    rails = await startRails();
  });
  afterEach(async () => {
    await rails[Symbol.asyncDispose]();
    expect({ watchers: rails.directory.watchers.size, sockets: rails.sockets.size, bugs: rails.bugs }).toEqual({
      watchers: 0,
      sockets: 0,
      bugs: [],
    });
  });

  /** A watch whose caller reads; `changes` fills. */
  function watch() {
    const call = rails.open(methodPath(watchAgents));
    const changes: WatchAgentsResponse["change"][] = [];
    call.on("data", (bytes: Buffer) => changes.push(fromBinary(WatchAgentsResponseSchema, bytes).change));
    const ended = statusOf(call);
    call.write(Buffer.from(toBinary(watchAgents.input, create(watchAgents.input))));
    call.end();
    return { call, changes, ended };
  }

  it("lists agents in pages and says what is missing", async () => {
    rails.directory.agents = Array.from({ length: 1_500 }, (_, i) => agent(i + 1));
    rails.directory.missing = ["kas-2.1"];

    const first = await rails.call(listAgents, [{ pageSize: 5_000, agentIds: [7n], projectIds: [10n] }]);
    const pageToken = first.replies[0]?.nextPageToken ?? "";
    const second = await rails.call(listAgents, [{ pageToken }]);

    expect(first.replies).toMatchObject([{ complete: false, missingNodes: ["kas-2.1"], nextPageToken: "1000" }]);
    expect([first, second].map(({ replies }) => replies[0]?.agents.length)).toEqual([1_000, 500]);
    expect(second.replies[0]?.nextPageToken).toBe("");
    expect(first.replies[0]?.agents[0]).toMatchObject({
      agentId: 1n,
      node: "kas-0.1",
      connection: 1n,
      projectId: 10n,
      transport: "grpc",
      connectedAt: { seconds: 1_700_000_000n },
      services: ["prometheus"],
    });
    expect(rails.directory.filters[0]).toEqual({ agentIds: [7], projectIds: [10] });
    const negative = await rails.call(listAgents, [{ pageSize: -1 }]);
    expect(negative.status.code).toBe(status.INVALID_ARGUMENT);
  });

  it("begins a watch with the snapshot in parts and goes on with changes", async () => {
    rails.directory.agents = Array.from({ length: 2_001 }, (_, i) => agent(i + 1));
    const { call, changes, ended } = watch();
    await until(() => changes.length === 3);
    const { node, connection, agentId } = agent(7);
    for (const changed of rails.directory.watchers) {
      changed({ type: "connected", agent: agent(7) });
      changed({ type: "disconnected", node, connection, agentId });
      changed({ type: "resync", node, agents: [] });
    }
    await until(() => changes.length === 6);

    expect(changes).toMatchObject([
      { case: "snapshot", value: { agents: { length: 1_000 }, last: false } },
      { case: "snapshot", value: { agents: { length: 1_000 }, last: false } },
      { case: "snapshot", value: { agents: { length: 1 }, last: true, complete: true } },
      { case: "connected", value: { agentId: 7n } },
      { case: "disconnected", value: { node: "kas-0.1", connection: 7n, agentId: 7n } },
      { case: "resync", value: { node: "kas-0.1", agents: [], last: true } },
    ]);
    call.cancel();
    expect((await ended).code).toBe(status.CANCELLED);
    await until(() => rails.directory.watchers.size === 0);
  });

  it("ends the watch of a reader that stays 10,000 changes behind", async () => {
    const { call, changes, ended } = watch();
    await until(() => changes.length === 1);
    call.pause();
    for (const changed of rails.directory.watchers) {
      for (let i = 0; i < 10_100; i += 1) changed({ type: "connected", agent: agent(7) });
    }
    expect(rails.directory.watchers.size).toBe(0);
    call.resume();

    const end = await ended;
    expect([end.code, failureCode(end)]).toEqual([status.RESOURCE_EXHAUSTED, "busy"]);
  });

  it("explains a route", async () => {
    const { replies } = await rails.call(explainRoute, [{ agentId: 7n }]);
    const { status: ended } = await rails.call(explainRoute, [{ agentId: 0n }]);

    expect(replies).toMatchObject([
      {
        agentId: 7n,
        slot: 42,
        homes: ["kas-0.1"],
        members: [{ node: "kas-0.1", state: "alive" }],
        connections: [{ node: "kas-0.1", connection: 3n, from: "home" }],
        verdict: "it would go to kas-0.1",
      },
    ]);
    expect(ended.code).toBe(status.INVALID_ARGUMENT);
  });
});
