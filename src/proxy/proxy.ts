/**
 * The HTTP Kubernetes API proxy: takes sockets, gives requests to the router. It owns every socket given to it until that
 * socket closes, and every request is answered, cut or cancelled before it is forgotten: both counts go back to zero.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Tracer } from "@opentelemetry/api";
import { Bag, type Place } from "../../actors/bag.ts";
import { failure } from "../../actors/failure.ts";
import type { Auth, TokenId } from "../auth/auth.ts";
import type { Router } from "../cluster/router.ts";
import { type Clock, systemClock } from "../runtime/clock.ts";
import { Exchange } from "./exchange.ts";
import { Http1Wire } from "./http1-wire.ts";
import { CallerSession } from "./http2-session.ts";
import { refuseBytes } from "./malformed.ts";
import type { ProxyLog, ProxyMetrics } from "./request-record.ts";
import { normalPrefix } from "./target.ts";
import { Upgrade } from "./upgrade.ts";
import type { ProxyLimits, VisitContext } from "./visit.ts";
import type { Verdict, Wire } from "./wire.ts";

export type ProxyOptions = {
  readonly router: Router;
  readonly access: Pick<Auth, "proxyAccess" | "onRevoked">;
  readonly log: ProxyLog;
  readonly metrics: ProxyMetrics;
  readonly tracer: Tracer;
  readonly clock?: Clock;
  /** `agent.kubernetes_api.url_path_prefix`; default `/`. */
  readonly urlPathPrefix?: string;
  readonly allowedOrigins?: readonly string[];
  /** For Via. */
  readonly version?: string;
  readonly limits?: Partial<ProxyLimits>;
};

export interface KubernetesProxy extends AsyncDisposable {
  /** What the listener shall offer. */
  readonly alpnProtocols: readonly string[];
  onSocket(socket: Socket, alpn: string): void;
  /** From now on every answer is its socket's last, and no HTTP/2 session takes a request; what stays idle is closed a little later. */
  drain(): void;
  readonly openSockets: number;
  /** Upgraded connections included. */
  readonly activeRequests: number;
}

const LIMITS: ProxyLimits = {
  acceptWithin: 20_000,
  headersTimeout: 10_000,
  keepAliveTimeout: 120_000,
  maxHeaderBytes: 32 * 1024,
  maxPipelined: 32,
  idleGrace: 15_000,
  discardBytes: 64 * 1024 * 1024,
  discardWithin: 30_000,
  maxStreams: 250,
  maxBodyBytes: 32 * 1024 * 1024,
  maxNuisance: 1_000,
  uploadStalled: 300_000,
  upgradeStalled: 4 * 3_600_000,
};

export const createProxy = (options: ProxyOptions): KubernetesProxy => new HttpProxy(options);

type Active = Exchange | Upgrade;

class HttpProxy implements KubernetesProxy {
  readonly alpnProtocols = ["h2", "http/1.1"];
  readonly #context: VisitContext;
  readonly #http2Context: VisitContext;
  readonly #server: Server;
  /** What is under way on each socket. */
  readonly #sockets = new Map<Socket, Bag<Active>>();
  readonly #sessions = new Set<CallerSession>();
  readonly #revocations: Disposable;
  #active = 0;
  #draining = false;
  #disposed = false;
  #idleTimer: Disposable | null = null;
  #emptied: () => void = () => {};

  constructor({ limits, urlPathPrefix = "/", allowedOrigins = [], version = "", ...options }: ProxyOptions) {
    const merged = { ...LIMITS, ...limits };
    const by = version ? `kas/${version}` : "kas";
    this.#context = {
      ...options,
      protocol: "http/1.1",
      answerVia: `1.1 ${by}`,
      clock: options.clock ?? systemClock,
      prefix: normalPrefix(urlPathPrefix),
      allowedOrigins,
      via: `1.1 ${by}`,
      acceptWithin: merged.acceptWithin,
      limits: merged,
      draining: () => this.#draining,
    };
    this.#http2Context = { ...this.#context, protocol: "h2", via: `2 ${by}` };
    this.#server = this.#createServer(merged);
    this.#revocations = options.access.onRevoked((tokens) => this.#revoked(tokens));
  }

  get openSockets(): number {
    return this.#sockets.size;
  }

  get activeRequests(): number {
    return this.#active;
  }

  onSocket(socket: Socket, alpn: string): void {
    if (this.#disposed) {
      socket.destroy();
      return;
    }
    const on = new Bag<Active>();
    this.#sockets.set(socket, on);
    socket.once("close", () => this.#socketClosed(socket));
    if (alpn === "h2") this.#serveHttp2(socket, on);
    else this.#server.emit("connection", socket);
  }

  drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    const { clock, limits } = this.#context;
    for (const session of this.#sessions) session.drain();
    this.#idleTimer = clock.schedule(clock.now() + limits.idleGrace, () => {
      this.#server.closeIdleConnections();
      for (const session of this.#sessions) session.closeIfIdle();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    this.#revocations[Symbol.dispose]();
    this.#idleTimer?.[Symbol.dispose]();
    this.#server.close();
    if (this.#sockets.size === 0) return;
    const emptied = new Promise<void>((resolve) => {
      this.#emptied = resolve;
    });
    for (const socket of this.#sockets.keys()) socket.destroy();
    await emptied;
  }

  #createServer({ headersTimeout, keepAliveTimeout, maxHeaderBytes }: ProxyLimits): Server {
    const server = createServer({
      requestTimeout: 0,
      headersTimeout,
      keepAliveTimeout,
      maxHeaderSize: maxHeaderBytes,
      connectionsCheckingInterval: Math.max(100, headersTimeout / 5),
      optimizeEmptyRequests: true,
      requireHostHeader: false, // ours says why, and in a record
      // A client that only offers HTTP/2 in clear goes on in HTTP/1.1, as it must be able to.
      shouldUpgradeCallback: ({ headers }) => headers.upgrade?.toLowerCase() !== "h2c",
    });
    server.maxHeadersCount = 0; // counted by us: node would silently drop those above
    server.on("request", (req, res) => this.#exchange(req, res, null, false));
    server.on("checkContinue", (req, res) => this.#exchange(req, res, null, true));
    server.on("checkExpectation", (req, res) => this.#exchange(req, res, UNKNOWN_EXPECTATION, false));
    server.on("upgrade", (req, socket, head) => this.#upgrade(req, socket as Socket, head));
    server.on("connect", (_req, socket) => refuseBytes(socket as Socket, CONNECT_REFUSED, this.#context));
    server.on("clientError", (error, socket) => this.#malformed(error, socket as Socket));
    server.emit("listening"); // starts the check of headersTimeout, on a server that never listens itself
    return server;
  }

  #serveHttp2(socket: Socket, on: Bag<Active>): void {
    const context = this.#http2Context;
    const session = new CallerSession(socket, context, (wire, fault, awaitsContinue) => {
      this.#begin(wire, on, context).start(fault, awaitsContinue);
    });
    this.#sessions.add(session);
    socket.once("close", () => this.#sessions.delete(session));
    if (this.#draining) session.drain();
  }

  #exchange(req: IncomingMessage, res: ServerResponse, fault: Verdict | null, awaitsContinue: boolean): void {
    const on = this.#sockets.get(req.socket);
    if (on === undefined) return;
    const exchange = this.#begin(new Http1Wire(req, res, this.#context), on, this.#context);
    exchange.start(on.size > this.#context.limits.maxPipelined ? TOO_MANY : fault, awaitsContinue);
  }

  #begin(wire: Wire, on: Bag<Active>, context: VisitContext): Exchange {
    const exchange = new Exchange(wire, context, () => this.#done(place));
    const place = on.add(exchange);
    this.#active += 1;
    return exchange;
  }

  #upgrade(req: IncomingMessage, socket: Socket, head: Buffer): void {
    const on = this.#sockets.get(socket);
    if (on === undefined || on.size > 0) {
      socket.destroy(); // its answer would land inside another
      return;
    }
    const upgrade = new Upgrade(req, socket, this.#context, () => this.#done(place));
    const place = on.add(upgrade);
    this.#active += 1;
    upgrade.start(head, null);
  }

  #malformed(error: NodeJS.ErrnoException, socket: Socket): void {
    const busy = (this.#sockets.get(socket)?.size ?? 0) > 0;
    if (busy || error.code === "ECONNRESET") socket.destroy();
    else refuseBytes(socket, error, this.#context);
  }

  #done(place: Place): void {
    if (place.remove()) this.#active -= 1;
  }

  /** Answers that wait for their turn are told here: no version of node:http promises them a "close". */
  #socketClosed(socket: Socket): void {
    const on = this.#sockets.get(socket);
    this.#sockets.delete(socket);
    for (const active of on ?? []) active.callerGone();
    if (this.#sockets.size === 0) this.#emptied();
  }

  #revoked(tokens: ReadonlySet<TokenId>): void {
    for (const on of this.#sockets.values()) {
      for (const active of on) active.revoked(tokens);
    }
  }
}

const TOO_MANY: Verdict = {
  failure: failure("busy", "too many requests were begun on one connection: wait for answers, or open another"),
  status: 429,
};
const UNKNOWN_EXPECTATION: Verdict = {
  failure: failure("invalid", "bad request: the only Expect that is understood is 100-continue"),
  status: 400,
};
const CONNECT_REFUSED = failure("invalid", "bad request: CONNECT is not served here");
