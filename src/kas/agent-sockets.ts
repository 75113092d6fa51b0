/**
 * The agent listener's sockets: gRPC and, where it is on, gRPC inside a WebSocket, told apart by ALPN or by their first bytes.
 * A socket that has not said within 10 s what it is gets closed, and so does the oldest of too many that have not.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import type { Millis } from "../../actors/actor.ts";
import type { GrpcServer } from "../grpc/server.ts";
import { MAX_WS_MESSAGE_BYTES, WS_TUNNEL, websocketStream } from "../link/carriers/websocket-stream.ts";
import type { Clock } from "../runtime/clock.ts";
import { firstBytes } from "./first-bytes.ts";

const DECIDED_WITHIN: Millis = 10_000;
const MAX_UNDECIDED = 4_096;
/** How long the other side may take to close a WebSocket that we close. */
const CLOSED_WITHIN: Millis = 1_000;
/** HTTP/2's preface begins with it, and no method of HTTP/1.1 does. */
const PREFACE = "PRI ";
const GOING_AWAY = 1001;
const PROTOCOL_ERROR = 1002;

const UPGRADE_REQUIRED = `agents of kas connect here, with gRPC over HTTP/2 or with a WebSocket of subprotocol ${WS_TUNNEL}\n`;

export type AgentSocketsOptions = {
  readonly clock: Clock;
  readonly grpc: Pick<GrpcServer, "inject">;
  /** Takes what is inside WebSockets; null: there are none on this listener. */
  readonly websocket: Pick<GrpcServer, "inject"> | null;
  readonly decidedWithin?: Millis;
  readonly maxUndecided?: number;
};

export class AgentSockets implements AsyncDisposable {
  readonly #options: AgentSocketsOptions;
  readonly #http: Server;
  readonly #upgrader = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: MAX_WS_MESSAGE_BYTES,
    handleProtocols: (offered) => offered.has(WS_TUNNEL) && WS_TUNNEL,
  });
  readonly #undecided = new Map<Duplex, Disposable>();
  readonly #websockets = new Set<WebSocket>();
  #disposed = false;

  constructor(options: AgentSocketsOptions) {
    this.#options = options;
    const shouldUpgradeCallback = ({ headers }: IncomingMessage) => headers.upgrade?.toLowerCase() === "websocket";
    this.#http = createServer({ shouldUpgradeCallback }, (_req, res) => refuse(res));
    this.#http.on("upgrade", (req, socket, head) => this.#upgrade(req, socket, head));
  }

  get alpnProtocols(): readonly string[] {
    return this.#options.websocket ? ["h2", "http/1.1"] : ["h2"];
  }

  /** WebSockets open now. */
  get websockets(): number {
    return this.#websockets.size;
  }

  /** Sockets that have not yet said what they are. */
  get undecided(): number {
    return this.#undecided.size;
  }

  onSocket(socket: Socket, alpn: string): void {
    if (this.#disposed) {
      socket.destroy();
      return;
    }
    if (!this.#options.websocket || alpn === "h2") {
      this.#options.grpc.inject(socket);
      return;
    }
    this.#await(socket);
    if (alpn === "http/1.1") this.#http.emit("connection", socket);
    else firstBytes(socket, PREFACE.length, (bytes) => this.#begins(socket, bytes));
  }

  /** Says to every WebSocket that this node goes away, and waits until they are closed. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    const closed = [...this.#undecided.keys(), ...this.#websockets].map(closing);
    for (const socket of this.#undecided.keys()) socket.destroy();
    for (const ws of this.#websockets) this.#close(ws, GOING_AWAY, "this node of kas goes away");
    await Promise.all(closed);
  }

  #begins(socket: Socket, bytes: Buffer): void {
    if (bytes.toString("latin1") !== PREFACE) {
      this.#http.emit("connection", socket);
      return;
    }
    this.#decided(socket);
    this.#options.grpc.inject(socket);
  }

  #await(socket: Socket): void {
    const { clock, decidedWithin = DECIDED_WITHIN, maxUndecided = MAX_UNDECIDED } = this.#options;
    const timer = clock.schedule(clock.now() + decidedWithin, () => socket.destroy());
    this.#undecided.set(socket, timer);
    socket.once("close", () => this.#decided(socket));
    const [oldest] = this.#undecided.keys();
    if (this.#undecided.size > maxUndecided) oldest?.destroy();
  }

  #decided(socket: Duplex): void {
    this.#undecided.get(socket)?.[Symbol.dispose]();
    this.#undecided.delete(socket);
  }

  #upgrade(req: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.#upgrader.handleUpgrade(req, socket, head, (ws) => this.#opened(ws, socket));
  }

  #opened(ws: WebSocket, socket: Duplex): void {
    this.#decided(socket);
    this.#websockets.add(ws);
    ws.once("close", () => this.#websockets.delete(ws));
    const stream = websocketStream(ws);
    if (ws.protocol === WS_TUNNEL) this.#options.websocket?.inject(stream);
    else this.#close(ws, PROTOCOL_ERROR, `the subprotocol must be ${WS_TUNNEL}`);
  }

  #close(ws: WebSocket, code: number, reason: string): void {
    const { clock } = this.#options;
    const deadline = clock.schedule(clock.now() + CLOSED_WITHIN, () => ws.terminate());
    ws.once("close", () => deadline[Symbol.dispose]());
    ws.close(code, reason);
  }
}

const closing = (one: Duplex | WebSocket): Promise<void> =>
  new Promise((resolve) => one.once("close", () => resolve()));

function refuse(res: ServerResponse): void {
  res.writeHead(426, { upgrade: "websocket", connection: "close, upgrade", "content-type": "text/plain" });
  res.end(UPGRADE_REQUIRED);
}
