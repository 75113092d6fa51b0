/** An API server with behaviour for tests: a real HTTP server on loopback that knows its sockets and can be asked for none. */
import { createServer, type IncomingMessage, type RequestListener, type Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";

export type Upgraded = (request: IncomingMessage, socket: Duplex, head: Buffer) => void;

export class TestApiServer implements AsyncDisposable {
  readonly sockets = new Set<Socket>();
  readonly requests: IncomingMessage[] = [];
  readonly #server: Server;
  #changed: (() => void)[] = [];

  constructor(server: Server) {
    this.#server = server;
    server.on("connection", (socket) => {
      this.sockets.add(socket);
      socket.on("close", () => {
        this.sockets.delete(socket);
        this.#tell();
      });
    });
    server.prependListener("request", (request) => {
      this.requests.push(request);
      this.#tell();
    });
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }
  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async until(condition: (server: this) => boolean): Promise<void> {
    while (!condition(this)) await new Promise<void>((resolve) => this.#changed.push(resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #tell(): void {
    const waiting = this.#changed;
    this.#changed = [];
    for (const resolve of waiting) resolve();
  }
}

export async function apiServer(listener: RequestListener, upgraded?: Upgraded): Promise<TestApiServer> {
  const server = createServer({ keepAliveTimeout: 0 }, listener);
  if (upgraded) server.on("upgrade", upgraded);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return new TestApiServer(server);
}
