/** A TCP balancer that cuts every connection on which no byte passed, either way, for a while. It counts what it cut. */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

export class IdleBalancer implements AsyncDisposable {
  /** Connections that were idle for too long: how old each was, and what had passed on it. */
  readonly cut: string[] = [];
  readonly #server: Server;
  readonly #idleFor: number;
  readonly #target: () => string;
  readonly #sockets = new Set<Socket>();

  private constructor(idleFor: number, target: () => string) {
    this.#idleFor = idleFor;
    this.#target = target;
    this.#server = createServer({ noDelay: true }, (near) => this.#accept(near));
  }

  /** `target` is asked anew for every connection. */
  static async before(target: () => string, idleFor: number): Promise<IdleBalancer> {
    const balancer = new IdleBalancer(idleFor, target);
    balancer.#server.listen(0, "127.0.0.1");
    await once(balancer.#server, "listening");
    return balancer;
  }

  get address(): string {
    const address = this.#server.address();
    return address && typeof address === "object" ? `127.0.0.1:${address.port}` : "";
  }

  /** Connections through it now. */
  get open(): number {
    return this.#sockets.size / 2;
  }

  #accept(near: Socket): void {
    const [host = "", port = "0"] = this.#target().split(":");
    const far = connect({ host, port: Number(port), noDelay: true });
    const end = () => {
      clearTimeout(timer);
      near.destroy();
      far.destroy();
    };
    const begun = performance.now();
    const timer = setTimeout(() => {
      const age = ((performance.now() - begun) / 1_000).toFixed(1);
      this.cut.push(`${age} s old, ${near.bytesRead} bytes to the server, ${far.bytesRead} back`);
      end();
    }, this.#idleFor);
    for (const socket of [near, far]) {
      this.#sockets.add(socket);
      socket.on("data", () => void timer.refresh());
      socket.on("error", () => {});
      socket.once("close", () => {
        this.#sockets.delete(socket);
        end();
      });
    }
    near.pipe(far).pipe(near);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }
}
