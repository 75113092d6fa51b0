/** What stands behind the agents: `/echo` echoes a WebSocket's messages, `/watch` says nothing until it is told to. */
import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import { WebSocketServer } from "ws";

export class QuietUpstream implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets: WebSocketServer;
  readonly #watchers = new Set<ServerResponse>();

  private constructor() {
    this.#server = createServer((_request, response) => {
      response.writeHead(200).flushHeaders();
      this.#watchers.add(response);
      response.once("close", () => this.#watchers.delete(response));
    });
    this.#sockets = new WebSocketServer({ server: this.#server, handleProtocols: ([first = ""]) => first });
    this.#sockets.on("connection", (socket) => {
      socket.on("error", () => {});
      socket.on("message", (message, isBinary) => socket.send(message, { binary: isBinary }));
    });
  }

  static async listen(): Promise<QuietUpstream> {
    const upstream = new QuietUpstream();
    upstream.#server.listen(0, "127.0.0.1");
    await once(upstream.#server, "listening");
    return upstream;
  }

  get address(): string {
    const address = this.#server.address();
    return address && typeof address === "object" ? `127.0.0.1:${address.port}` : "";
  }

  /** An event for every watcher. */
  readonly tell = (): void => {
    for (const watcher of this.#watchers) watcher.write(`event ${Date.now()}\n`);
  };

  /** The pod dies: its sessions end. */
  hangUp(): void {
    for (const socket of this.#sockets.clients) socket.close(1000, "the pod is gone");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}
