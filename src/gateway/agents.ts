/**
 * What is connected and where: ListAgents, WatchAgents, ExplainRoute. A watch sends one message at a time and keeps at
 * most 10,000 changes for a slow reader, who is then told to begin again.
 */
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Millis } from "../../actors/actor.ts";
import { type AgentId, isAgentId } from "../../actors/ids.ts";
import type { AgentChange, AgentFilter, ConnectedAgent, Directory } from "../cluster/router.ts";
import { failed } from "../failed.ts";
import * as api from "../gen/kas/gateway/v1/gateway_pb.ts";
import type { ServerCall } from "../grpc/call.ts";
import { decode, encode, single, unary } from "../grpc/service.ts";
import type { GuardedAnswer, GuardedCall } from "./guard.ts";

const MAX_PAGE = 1_000;
const MAX_BEHIND = 10_000;
/** How long nodes that do not answer are waited for. */
const LIST_WITHIN: Millis = 2_000;

function agentIdOf(value: bigint): AgentId {
  const id = Number(value);
  if (!isAgentId(id)) throw failed("invalid", `agent id ${value}: it must be a positive number below 2^53`);
  return id;
}

const filterOf = (asked: {
  readonly agentIds: readonly bigint[];
  readonly projectIds: readonly bigint[];
}): AgentFilter => ({
  agentIds: asked.agentIds.map(agentIdOf),
  projectIds: asked.projectIds.map(Number),
});

const agentMessage = (agent: ConnectedAgent): api.ConnectedAgent =>
  create(api.ConnectedAgentSchema, {
    agentId: BigInt(agent.agentId),
    node: agent.node,
    connection: BigInt(agent.connection),
    name: agent.name,
    projectId: BigInt(agent.projectId),
    version: agent.version,
    instance: agent.instance,
    transport: agent.transport,
    connectedAt: timestampFromMs(agent.connectedAt),
    activeStreams: agent.activeStreams,
    services: [...agent.services],
  });

/** Leaves time for the answer itself. */
const within = (call: ServerCall): Millis => Math.max(1, Math.min(LIST_WITHIN, call.timeLeft() * 0.8));

export const listAgents = (directory: Directory): GuardedAnswer =>
  unary(api.Gateway.method.listAgents, async (asked, call) => {
    if (asked.pageSize < 0) throw failed("invalid", `page_size is ${asked.pageSize}: it must be 1 to ${MAX_PAGE}`);
    const size = Math.min(asked.pageSize || MAX_PAGE, MAX_PAGE);
    const page = await directory.list(filterOf(asked), size, asked.pageToken, within(call));
    return {
      agents: page.agents.map(agentMessage),
      nextPageToken: page.nextPageToken,
      complete: page.complete,
      missingNodes: [...page.missing],
    };
  });

export const explainRoute = (directory: Directory): GuardedAnswer =>
  unary(api.Gateway.method.explainRoute, async ({ agentId }) => {
    const route = await directory.explain(agentIdOf(agentId));
    return {
      agentId,
      slot: route.slot,
      homes: [...route.homes],
      members: route.members.map(({ node, state }) => ({ node, state })),
      connections: route.connections.map(({ node, connection, from }) => ({
        node,
        connection: BigInt(connection),
        from,
      })),
      missingNodes: [...route.missing],
      verdict: route.verdict,
    };
  });

type Change = api.WatchAgentsResponse["change"];

function* pages(agents: readonly ConnectedAgent[]): Generator<{ agents: api.ConnectedAgent[]; last: boolean }> {
  for (let at = 0; at === 0 || at < agents.length; at += MAX_PAGE) {
    yield { agents: agents.slice(at, at + MAX_PAGE).map(agentMessage), last: at + MAX_PAGE >= agents.length };
  }
}

/** Lists come in parts, each made only when it is its turn. */
function* messagesOf(change: AgentChange): Generator<Change> {
  switch (change.type) {
    case "snapshot":
      for (const page of pages(change.agents)) {
        const whole = page.last ? { complete: change.complete, missingNodes: [...change.missing] } : {};
        yield { case: "snapshot", value: create(api.AgentSnapshotSchema, { ...page, ...whole }) };
      }
      return;
    case "connected":
      yield { case: "connected", value: agentMessage(change.agent) };
      return;
    case "disconnected": {
      const { node, connection, agentId } = change;
      const gone = { node, connection: BigInt(connection), agentId: BigInt(agentId) };
      yield { case: "disconnected", value: create(api.AgentDisconnectedSchema, gone) };
      return;
    }
    case "resync":
      for (const page of pages(change.agents)) {
        yield { case: "resync", value: create(api.AgentResyncSchema, { ...page, node: change.node }) };
      }
  }
}

class Watch implements Disposable {
  readonly #call: GuardedCall;
  readonly #subscription: Disposable;
  readonly #behind: AgentChange[] = [];
  #current: Generator<Change> | null = null;
  #sending = false;
  #over = false;

  constructor(call: GuardedCall, directory: Directory, filter: AgentFilter) {
    this.#call = call;
    this.#subscription = directory.watch(filter, (change) => this.#add(change));
  }

  [Symbol.dispose](): void {
    this.#over = true;
    this.#behind.length = 0;
    this.#current = null;
    this.#subscription[Symbol.dispose]();
  }

  #add(change: AgentChange): void {
    if (this.#over) return;
    if (this.#behind.length >= MAX_BEHIND) {
      this[Symbol.dispose]();
      this.#call.fail(failed("busy", `the reader is ${MAX_BEHIND} changes behind: begin a new watch and read faster`));
      return;
    }
    this.#behind.push(change);
    this.#next();
  }

  #next(): void {
    if (this.#sending || this.#over) return;
    const message = this.#take();
    if (!message) return;
    this.#sending = true;
    this.#call.send(encode(api.WatchAgentsResponseSchema, { change: message }), () => {
      this.#sending = false;
      this.#next();
    });
  }

  #take(): Change | null {
    for (;;) {
      const next = this.#current?.next();
      if (next && !next.done) return next.value;
      const change = this.#behind.shift();
      if (!change) return null;
      this.#current = messagesOf(change);
    }
  }
}

export const watchAgents =
  (directory: Directory): GuardedAnswer =>
  (call) => {
    let watch: Watch | null = null;
    return single(
      call,
      (bytes) => {
        const asked = decode(api.WatchAgentsRequestSchema, bytes);
        watch = new Watch(call, directory, filterOf(asked));
      },
      () => watch?.[Symbol.dispose](),
    );
  };
