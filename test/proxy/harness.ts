/** A proxy on a real port before an in-memory router. What leaks fails the test that leaked it. */
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { setImmediate as turn } from "node:timers/promises";
import { type Tracer, trace } from "@opentelemetry/api";
import { expect } from "vitest";
import { type Failure, failure } from "../../actors/failure.ts";
import type { AgentId, ConnectionId, NodeId } from "../../actors/ids.ts";
import type { Auth, ProxyAccess, ProxyCredential, TokenId } from "../../src/auth/auth.ts";
import type { RoutedStream, RouteRequest, Router } from "../../src/cluster/router.ts";
import { encodeHead, type Head } from "../../src/link/messages.ts";
import type { Stream, StreamHandler } from "../../src/link/stream.ts";
import { listen } from "../../src/net/listener.ts";
import { createProxy, type KubernetesProxy, type ProxyOptions } from "../../src/proxy/proxy.ts";
import type { AccessRecord, Outcome } from "../../src/proxy/request-record.ts";
import type { CertificateFiles, Pair } from "../net/certificate-files.ts";
import { type StreamEnd, streamPair } from "../support/stream-pair.ts";

/** What the agent does with a request. */
export type Behaviour = (request: RouteRequest, stream: Stream) => Partial<StreamHandler>;

const QUIET: StreamHandler = {
  accepted() {},
  head() {},
  data() {},
  trailer() {},
  end() {},
  stopped() {},
  reset() {},
  sent() {},
  closed() {},
};

export class MemoryRouter implements Router {
  readonly requests: RouteRequest[] = [];
  readonly ingress: StreamEnd[] = [];
  readonly agent: StreamEnd[] = [];
  behaviour: Behaviour;
  readonly #window: number;

  constructor(behaviour: Behaviour, window: number) {
    this.behaviour = behaviour;
    this.#window = window;
  }

  open(request: RouteRequest, handler: StreamHandler): RoutedStream {
    this.requests.push(request);
    const serve = (stream: Stream) => {
      const handler = { ...QUIET };
      queueMicrotask(() => Object.assign(handler, this.behaviour(request, stream)));
      return handler;
    };
    const { caller, executor } = streamPair(handler, serve, this.#window);
    this.ingress.push(caller);
    this.agent.push(executor);
    const node = "kas-1.1" as NodeId;
    const route = { node, connection: 1 as ConnectionId, hop: "local", attempts: 1, took: 1 } as const;
    return Object.assign(caller, { requestId: `r${this.requests.length}`, route });
  }
}

export const head = (status: number, headers: Head["headers"] = []): Uint8Array => encodeHead({ status, headers });

/** Answers at once with a fixed body. */
export const answering =
  (status: number, body = "", headers: Head["headers"] = ["content-length", String(body.length)]): Behaviour =>
  (_request, stream) => {
    stream.head(head(status, headers));
    if (body) stream.data(Buffer.from(body));
    stream.end();
    return {};
  };

/** Answers with the body it is sent, piece by piece. */
export const echoing: Behaviour = (_request, stream) => {
  stream.head(head(200));
  return {
    data(bytes) {
      stream.data(bytes);
      stream.consumed(bytes.length);
    },
    end: () => stream.end(),
  };
};

const IMPERSONATED = { user: "alice", groups: ["devs"], uid: "", extra: [] } as const;

/** agent 1; `alice` is impersonated, `agent` runs as the agent, both may use the service prometheus. */
export class FakeAccess implements Pick<Auth, "proxyAccess" | "onRevoked"> {
  readonly #callbacks = new Set<(tokens: ReadonlySet<TokenId>) => void>();
  readonly seen: ProxyCredential[] = [];
  later = false;

  proxyAccess(credential: ProxyCredential): ProxyAccess | Failure | Promise<ProxyAccess | Failure> {
    this.seen.push(credential);
    const answer = this.#decide(credential);
    return this.later ? turn().then(() => answer) : answer;
  }

  #decide({ kind, agentId, token }: ProxyCredential): ProxyAccess | Failure {
    if (token === "broken") throw new Error("a bug with a secret in it");
    if (token !== "alice" && token !== "agent") return failure("unauthenticated", "unauthorized: unknown token");
    if (agentId !== (1 as AgentId)) return failure("forbidden", `forbidden: no grant for agent ${agentId}`);
    const as = token === "alice" ? IMPERSONATED : null;
    return { caller: { kind, id: token, as }, services: ["prometheus"], tokenId: token };
  }

  onRevoked(callback: (tokens: ReadonlySet<TokenId>) => void): Disposable {
    this.#callbacks.add(callback);
    return { [Symbol.dispose]: () => void this.#callbacks.delete(callback) };
  }

  revoke(token: string): void {
    for (const callback of this.#callbacks) callback(new Set([token]));
  }

  get subscribers(): number {
    return this.#callbacks.size;
  }
}

export type Harness = AsyncDisposable & {
  readonly port: number;
  readonly proxy: KubernetesProxy;
  readonly router: MemoryRouter;
  readonly access: FakeAccess;
  readonly records: AccessRecord[];
  readonly bugs: unknown[];
  readonly counted: { methodClass: string; outcome: Outcome; seconds: number }[];
  readonly url: string;
};

type HarnessOptions = Partial<ProxyOptions> & { readonly window?: number; readonly tracer?: Tracer };

export async function startProxy(behaviour: Behaviour, options: HarnessOptions = {}): Promise<Harness> {
  const router = new MemoryRouter(behaviour, options.window ?? 64 * 1024);
  const access = new FakeAccess();
  const records: AccessRecord[] = [];
  const bugs: unknown[] = [];
  const counted: Harness["counted"] = [];
  const proxy = createProxy({
    router,
    access,
    log: { access: (record) => void records.push(record), bug: (error) => void bugs.push(error) },
    metrics: { request: (methodClass, outcome, seconds) => void counted.push({ methodClass, outcome, seconds }) },
    tracer: trace.getTracer("off"),
    ...options,
  });
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => proxy.onSocket(socket, ""));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    proxy,
    router,
    access,
    records,
    bugs,
    counted,
    url: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      await until(() => proxy.activeRequests === 0, "every request is over");
      await until(() => router.ingress.every((stream) => stream.over), "every stream is over");
      expect(records.length).toBe(counted.length);
      server.close();
      await proxy[Symbol.asyncDispose]();
      expect(proxy.openSockets).toBe(0);
      expect(access.subscribers).toBe(0);
    },
  };
}

/** The same proxy behind a listener of ours with TLS on. */
export async function serveTls({ proxy }: Harness, files: CertificateFiles, pair: Pair) {
  files.write(pair);
  const { certificateFile, keyFile } = files;
  const listener = await listen({
    address: "127.0.0.1:0",
    tls: { certificateFile, keyFile },
    alpnProtocols: proxy.alpnProtocols,
    onSocket: (socket, alpn) => proxy.onSocket(socket, alpn),
  });
  return Object.assign(listener, { port: Number(listener.address.split(":")[1]) });
}

/** Waits for a condition, turn by turn of the event loop. */
export async function until(holds: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`never: ${what}`);
    await turn();
  }
}

/** A client that writes what it likes and keeps what it gets. */
export class RawClient implements Disposable {
  readonly socket: Socket;
  text = "";
  bytes = 0;
  ended = false;
  closed = false;

  constructor(port: number) {
    this.socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
    this.socket.on("data", (chunk: Buffer) => {
      this.bytes += chunk.length;
      this.text += chunk.toString("latin1");
    });
    this.socket.on("end", () => {
      this.ended = true;
    });
    this.socket.on("close", () => {
      this.closed = true;
    });
    this.socket.on("error", () => {});
  }

  send(text: string): this {
    this.socket.write(text, "latin1");
    return this;
  }

  async has(part: string): Promise<string> {
    await until(
      () => this.text.includes(part) || this.closed,
      `${JSON.stringify(part)} in ${JSON.stringify(this.text)}`,
    );
    expect(this.text).toContain(part);
    return this.text;
  }

  async over(): Promise<string> {
    await until(() => this.ended || this.closed, "the server ends the connection");
    return this.text;
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

export const AUTH = "Authorization: Bearer pat:1:agent\r\n";

/** A request's head; `lines` end in CRLF each. */
export const request = (line: string, lines = AUTH): string => `${line} HTTP/1.1\r\nHost: kas\r\n${lines}\r\n`;

export const headersOf = ({ headers }: RouteRequest): Map<string, string> => {
  const map = new Map<string, string>();
  for (let i = 0; i + 1 < headers.length; i += 2) map.set(headers[i] ?? "", headers[i + 1] ?? "");
  return map;
};
