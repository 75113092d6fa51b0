/** The agents' call on a real gRPC server over loopback: who gets in, what becomes of its link, and what is left. */
import {
  Client,
  type ClientDuplexStream,
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  status,
} from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import type { AgentId } from "../../actors/ids.ts";
import type { AgentIdentity, Answer } from "../../src/auth/auth.ts";
import { agentTunnel, agentTunnelHandlers } from "../../src/kas/agent-tunnel.ts";
import { helloOf } from "../../src/kas/greeting.ts";
import type { Carrier, Hello, Link } from "../../src/link/link.ts";
import { openLink } from "../../src/link/multiplexer.ts";
import { StreamCluster } from "../support/stream-cluster.ts";
import type { Kas } from "../support/stream-node.ts";
import { Heard, turns } from "../support/streams.ts";

const AGENT: AgentIdentity = { agentId: 7 as AgentId, name: "prod", projectId: 10, tokenId: "id of good" };

const identity = (bytes: Buffer): Buffer => bytes;

/** The agent's end: each batch is one message of a single `bytes` field; lengths of two bytes are enough here. */
function carrierOf(call: ClientDuplexStream<Buffer, Buffer>): Carrier {
  const carrier: Carrier = {
    maxBatchBytes: 8 * 1024,
    maxBatches: 2,
    onData() {},
    onClosed() {},
    write(batch, bytes, taken) {
      const length = bytes < 128 ? [bytes] : [(bytes & 0x7f) | 0x80, bytes >> 7];
      call.write(Buffer.concat([Buffer.from([0x0a, ...length]), ...batch]), taken);
    },
    end: () => void call.end(),
    destroy: () => call.cancel(),
  };
  call.on("data", (message: Buffer) => {
    const at = (message[1] ?? 0) < 128 ? 2 : 3;
    if (message.length > at) carrier.onData(message.subarray(at));
  });
  call.on("error", () => {});
  call.once("status", ({ details }) => carrier.onClosed(details));
  return carrier;
}

type Revoked = (tokens: ReadonlySet<string>) => void;

class TestTunnel {
  readonly server = new Server();
  readonly told: string[] = [];
  readonly revoked = new Set<Revoked>();
  agentOf: (token: string) => Answer<AgentIdentity> = (token) =>
    token === "good" ? AGENT : failure("unauthenticated", "no such token");
  readonly cluster: StreamCluster;
  readonly kas: Kas;
  #client: Client | null = null;

  constructor(cluster: StreamCluster, kas: Kas) {
    this.cluster = cluster;
    this.kas = kas;
    const log = {
      info: (message: string) => void this.told.push(message),
      warn: (message: string) => void this.told.push(message),
      error: (message: string) => void this.told.push(message),
    };
    const onRevoked = (callback: Revoked) => {
      this.revoked.add(callback);
      return { [Symbol.dispose]: () => void this.revoked.delete(callback) };
    };
    const handlers = agentTunnelHandlers({
      auth: { agentOf: (token: string) => this.agentOf(token), onRevoked } as never,
      routing: kas.node.routing,
      holder: kas.holder,
      clock: cluster.cluster.clock,
      openLink,
      transport: "grpc",
      hello: (agent) => helloOf(kas.identity, "", String(agent.agentId)),
      wallClock: () => 1_234,
      connects: (result) => this.told.push(`connects ${result}`),
      disconnects: (reason) => this.told.push(`disconnects ${reason}`),
      log: log as never,
    });
    this.server.addService(agentTunnel, handlers);
  }

  async start(): Promise<void> {
    const port = await new Promise<number>((resolve, reject) =>
      this.server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, taken) =>
        error ? reject(error) : resolve(taken),
      ),
    );
    this.#client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  }

  call(authorization?: string) {
    if (!this.#client) throw new RangeError("not started");
    const metadata = new Metadata();
    if (authorization) metadata.set("authorization", authorization);
    const path = "/kas.agent.v1.AgentTunnel/Connect";
    const call = this.#client.makeBidiStreamRequest(path, identity, identity, metadata);
    const code = new Promise<number>((resolve) => call.once("status", (ended) => resolve(ended.code)));
    return { call, code };
  }

  /** An agent's end of the link. `mute`: from then on it says nothing more. */
  agent(authorization = "Bearer good", changes: Partial<Hello> = {}) {
    const { call, code } = this.call(authorization);
    const events: string[] = [];
    const carrier = carrierOf(call);
    const mute = () => Object.assign(carrier, { write: () => {} });
    const link: Link = openLink({
      clock: this.cluster.cluster.clock,
      carrier,
      role: "dialler",
      hello: { ...helloOf(this.kas.identity), role: "agent", instance: "ns/pod", process: "p", link: 1, ...changes },
      check: () => null,
      events: {
        up: (peer) => events.push(`up ${peer.instance}`),
        open: () => new Heard(),
        ready: () => events.push("ready"),
        drain: () => events.push("drain"),
        ctl() {},
        closed: ({ code: why }) => events.push(`closed ${why}`),
      },
    });
    return { link, events, code, mute };
  }

  async stop(): Promise<void> {
    this.#client?.close();
    this.server.forceShutdown();
    expect(this.revoked.size).toBe(0);
    await this.cluster[Symbol.asyncDispose]();
  }
}

/** I/O is real: turns of the event loop until it came. */
async function until(condition: () => boolean): Promise<void> {
  const end = performance.now() + 5_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error("the condition never held");
    await turns(5);
  }
}

describe("the agents' call", () => {
  let tunnel: TestTunnel;

  beforeEach(async () => {
    const [cluster, kas] = await StreamCluster.of("a");
    if (!kas) throw new RangeError("no node");
    tunnel = new TestTunnel(cluster, kas);
    await tunnel.start();
  });
  afterEach(() => tunnel.stop());

  it("becomes a connection of the agent that its token names, until it ends", async () => {
    const agent = tunnel.agent("bearer good", { capabilities: ["service:prometheus", "x"], version: "v9" });
    await until(() => agent.events.includes("up 7"));
    await until(() => [...tunnel.kas.holder.connections()].length === 1);
    const [connection] = [...tunnel.kas.holder.connections()];
    expect(connection).toMatchObject({
      agentId: 7,
      name: "prod",
      projectId: 10,
      instance: "ns/pod",
      version: "v9",
      services: ["prometheus"],
      connectedAt: 1_234,
      token: "id of good",
    });
    expect(tunnel.revoked.size).toBe(0);
    agent.link.destroy(failure("cancelled", "the pod stops"));
    await until(() => [...tunnel.kas.holder.connections()].length === 0);
    expect(tunnel.told).toEqual(["connects ok", "agent connected", "disconnects lost", "agent disconnected"]);
    await agent.code;
  });

  it.each([undefined, "good", "Basic good", "Bearer bad", "Bearer good extra"])(
    "refuses `%s`",
    async (authorization) => {
      const { call, code } = tunnel.call(authorization);
      call.on("error", () => {});
      call.resume();
      expect(await code).toBe(status.UNAUTHENTICATED);
      expect(tunnel.told).toEqual(["connects unauthenticated", "agent refused"]);
    },
  );

  it("fails with INTERNAL, and only that call, when the token cannot be looked up", async () => {
    tunnel.agentOf = async () => {
      throw new Error("the lookup broke");
    };
    const { call, code } = tunnel.call("Bearer good");
    call.on("error", () => {});
    call.resume();
    expect(await code).toBe(status.INTERNAL);
    expect(tunnel.told).toEqual(["an agent could not be admitted"]);
  });

  it("is ended by a revocation while it greets, and never becomes a connection", async () => {
    const { call, code } = tunnel.call("Bearer good");
    call.on("error", () => {});
    call.resume();
    await until(() => tunnel.revoked.size === 1);
    for (const revoke of [...tunnel.revoked]) revoke(new Set(["another"]));
    expect(tunnel.revoked.size).toBe(1);
    for (const revoke of [...tunnel.revoked]) revoke(new Set(["id of good"]));
    call.end();
    await code;
    expect([...tunnel.kas.holder.connections()]).toEqual([]);
    expect(tunnel.told).toEqual(["connects error", "agent link ended before it was up"]);
  });

  it("is refused while this node leaves, so that the agent keeps what it has and goes elsewhere", async () => {
    const before = tunnel.agent();
    await until(() => before.events.includes("up 7"));
    Object.defineProperty(tunnel.kas.node.routing, "phase", { get: () => "draining" });
    const late = tunnel.call("Bearer good");
    late.call.on("error", () => {});
    late.call.resume();
    expect(await late.code).toBe(status.UNAVAILABLE);
    expect([...tunnel.kas.holder.connections()]).toHaveLength(1);
    before.link.destroy(failure("cancelled", ""));
    await Promise.all([before.code, late.code]);
  });

  it("tells of a link that its agent's next replaced, of one that was closed in order, and of one that broke", async () => {
    const old = tunnel.agent();
    await until(() => old.events.includes("up 7"));
    const next = tunnel.agent("Bearer good", { link: 2, lost: [1] });
    await until(() => tunnel.told.includes("disconnects superseded"));
    next.link.close();
    await until(() => tunnel.told.includes("disconnects drain"));
    const last = tunnel.agent("Bearer good", { link: 3 });
    await until(() => last.events.includes("up 7"));
    last.link.destroy(failure("node-gone", "the other side of the link was silent for 4000 ms"));
    await until(() => tunnel.told.includes("disconnects lost"));
    await Promise.all([old.code, next.code, last.code]);
  });

  it("tells of a link that fell silent", async () => {
    const agent = tunnel.agent();
    await until(() => agent.events.includes("up 7"));
    agent.mute();
    await until(() => {
      tunnel.cluster.cluster.clock.advance(1_000);
      return tunnel.told.includes("disconnects silent");
    });
    await agent.code;
  });

  it("takes no streams from agents, and nobody but agents", async () => {
    const agent = tunnel.agent();
    await until(() => agent.events.includes("up 7"));
    const heard = new Heard();
    agent.link.open(new Uint8Array(1), heard, 0);
    await until(() => heard.isOver);
    expect(agent.events.at(-1)).toBe("closed protocol");
    const other = tunnel.agent("Bearer good", { role: "kas" });
    await until(() => other.events.some((event) => event.startsWith("closed")));
    expect(other.events.at(-1)).toBe("closed protocol");
    expect([...tunnel.kas.holder.connections()]).toHaveLength(0);
    agent.link.destroy(failure("cancelled", ""));
    await Promise.all([agent.code, other.code]);
  });
});
