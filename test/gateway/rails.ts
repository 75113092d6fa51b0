/** A gateway over real sockets and a real client of it, both gone when disposed; the cluster behind it is a fake. */
import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import {
  create,
  type DescMethod,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  Client,
  type ClientDuplexStream,
  credentials,
  Metadata,
  type ServiceError,
  type StatusObject,
} from "@grpc/grpc-js";
import { ProxyTracerProvider } from "@opentelemetry/api";
import { type Failure, failure } from "../../actors/failure.ts";
import type { AgentChange, AgentFilter, ConnectedAgent, Directory } from "../../src/cluster/router.ts";
import { createGateway, type GatewayOptions } from "../../src/gateway/gateway.ts";
import type { TokenVerifier } from "../../src/gateway/guard.ts";
import { Gateway } from "../../src/gen/kas/gateway/v1/gateway_pb.ts";
import type { Readiness } from "../../src/grpc/health.ts";
import { methodPath } from "../../src/grpc/service.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { FakeRouter } from "./fake-router.ts";

export const TOKEN = "good";

/** Knows tokens by name, as the real one knows them by signature. */
const tokens: TokenVerifier = {
  verify(token): object | Failure | Promise<object | Failure> {
    if (token === TOKEN) return { issuer: "gitlab.example.com" };
    if (token === "good-later") return Promise.resolve({ issuer: "gitlab.example.com" });
    return Promise.resolve(failure("unauthenticated", `JWT validation failed: ${token}`));
  },
};

export class FakeDirectory implements Directory {
  agents: ConnectedAgent[] = [];
  missing: string[] = [];
  readonly watchers = new Set<(change: AgentChange) => void>();
  filters: AgentFilter[] = [];

  async list(filter: AgentFilter, pageSize: number, pageToken: string) {
    this.filters.push(filter);
    const at = Number(pageToken || 0);
    const rest = at + pageSize < this.agents.length;
    return {
      agents: this.agents.slice(at, at + pageSize),
      nextPageToken: rest ? String(at + pageSize) : "",
      complete: this.missing.length === 0,
      missing: this.missing as never[],
    };
  }

  watch(_: AgentFilter, changed: (change: AgentChange) => void): Disposable {
    this.watchers.add(changed);
    setImmediate(() => changed({ type: "snapshot", agents: this.agents, complete: true, missing: [] }));
    return { [Symbol.dispose]: () => this.watchers.delete(changed) };
  }

  async explain(agentId: ConnectedAgent["agentId"]) {
    const node = "kas-0.1" as ConnectedAgent["node"];
    const connection = 3 as ConnectedAgent["connection"];
    return {
      agentId,
      slot: 42,
      homes: [node],
      members: [{ node, state: "alive" }],
      connections: [{ node, connection, from: "home" }],
      missing: [],
      verdict: "it would go to kas-0.1",
    };
  }
}

export class FakeReadiness implements Readiness {
  readonly changed = new Set<() => void>();
  #ready = true;
  ready(): boolean {
    return this.#ready;
  }
  set(ready: boolean): void {
    this.#ready = ready;
    for (const tell of this.changed) tell();
  }
  onChange(changed: () => void): Disposable {
    this.changed.add(changed);
    return { [Symbol.dispose]: () => this.changed.delete(changed) };
  }
}

export type Called = { readonly method: string; readonly status: string };
export type Outcome<Reply> = {
  readonly replies: Reply[];
  readonly headers: Metadata | null;
  readonly status: StatusObject;
};
export type CallOptions = {
  readonly token?: string;
  readonly metadata?: Record<string, string | Buffer>;
  readonly deadline?: number;
};

const identity = (bytes: Buffer): Buffer => bytes;

export type TestRails = Awaited<ReturnType<typeof startRails>>;
export type Tls = { readonly key: string; readonly cert: string };

export async function startRails(overrides: Partial<GatewayOptions> = {}, tls?: Tls) {
  const router = new FakeRouter();
  const directory = new FakeDirectory();
  const readiness = new FakeReadiness();
  const called: Called[] = [];
  const bugs: unknown[] = [];
  const gateway = createGateway({
    router,
    directory,
    readiness,
    tokens,
    tracer: new ProxyTracerProvider().getTracer("test"),
    metrics: { called: (method, status) => called.push({ method, status }) },
    clock: systemClock,
    bug: (error) => bugs.push(error),
    ...overrides,
  });
  const sockets = new Set<Socket>();
  const inject = (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    gateway.inject(socket);
  };
  const listener: Server = tls ? createTlsServer({ ...tls, ALPNProtocols: ["h2"] }, inject) : createServer(inject);
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const bound = listener.address();
  const address = `127.0.0.1:${bound && typeof bound === "object" ? bound.port : 0}`;
  const channel = tls
    ? credentials.createSsl(Buffer.from(tls.cert), null, null, { checkServerIdentity: () => undefined })
    : credentials.createInsecure();
  const client = new Client(address, channel, {
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    "grpc.enable_retries": 0,
    ...(tls && { "grpc.ssl_target_name_override": "localhost" }),
  });

  /** A call of any kind in bytes, the caller in charge of it. */
  function open(path: string, { token = TOKEN, metadata = {}, deadline }: CallOptions = {}) {
    const headers = new Metadata();
    if (token) headers.set("authorization", `bearer ${token}`);
    for (const [name, value] of Object.entries(metadata)) headers.set(name, value);
    const options = deadline === undefined ? {} : { deadline: Date.now() + deadline };
    const call: ClientDuplexStream<Buffer, Buffer> = client.makeBidiStreamRequest(
      path,
      identity,
      identity,
      headers,
      options,
    );
    call.on("error", () => {});
    return call;
  }

  /** Sends `requests`, half-closes and gathers everything. */
  async function bytes(
    path: string,
    requests: readonly Uint8Array[],
    options: CallOptions = {},
  ): Promise<Outcome<Buffer>> {
    const call = open(path, options);
    const replies: Buffer[] = [];
    let headers: Metadata | null = null;
    call.on("data", (reply: Buffer) => replies.push(reply));
    call.on("metadata", (metadata) => {
      headers = metadata;
    });
    const status = statusOf(call);
    for (const request of requests) call.write(Buffer.from(request));
    call.end();
    return { replies, status: await status, headers };
  }

  async function call<Method extends DescMethod>(
    method: Method,
    requests: readonly MessageInitShape<Method["input"]>[],
    options: CallOptions = {},
  ): Promise<Outcome<MessageShape<Method["output"]>>> {
    const encoded = requests.map((request) => toBinary(method.input, create(method.input, request)));
    const outcome = await bytes(methodPath(method), encoded, options);
    const replies = outcome.replies.map((reply) => fromBinary(method.output, reply) as MessageShape<Method["output"]>);
    return { ...outcome, replies };
  }

  return {
    router,
    directory,
    readiness,
    called,
    bugs,
    gateway,
    client,
    address,
    sockets,
    open,
    bytes,
    call,
    request: (request: MessageInitShape<(typeof Gateway.method.request)["input"]>, options: CallOptions = {}) =>
      call(Gateway.method.request, [{ agentId: 7n, method: "GET", ...request }], options),
    async [Symbol.asyncDispose]() {
      client.close();
      const closed = new Promise((resolve) => listener.close(resolve));
      await gateway[Symbol.asyncDispose]();
      await closed;
    },
  };
}

export const statusOf = (call: ClientDuplexStream<Buffer, Buffer>): Promise<StatusObject> =>
  new Promise((resolve) => call.on("status", resolve));

export const failureCode = ({ metadata }: StatusObject | ServiceError): string =>
  String(metadata.get("failure-code")[0] ?? "");

/** Waits for a condition, a turn at a time. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

export const agent = (agentId: number): ConnectedAgent => ({
  agentId: agentId as ConnectedAgent["agentId"],
  node: "kas-0.1" as ConnectedAgent["node"],
  connection: agentId as ConnectedAgent["connection"],
  name: `agent-${agentId}`,
  projectId: 10,
  version: "v1.0.0",
  instance: "default/agentk-0",
  transport: "grpc",
  connectedAt: 1_700_000_000_000,
  activeStreams: 0,
  services: ["prometheus"],
});
