/**
 * A TCP balancer in front of the nodes: the address an agent dials, so that it can land elsewhere when its node is gone.
 * It tries the targets in their order of preference and passes bytes; it never speaks.
 */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

export class Balancer implements AsyncDisposable {
  readonly #server: Server;
  readonly #targets: () => readonly string[];
  readonly #sockets = new Set<Socket>();

  private constructor(targets: () => readonly string[]) {
    this.#targets = targets;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  /** `targets` is asked anew for every connection: `host:port`, the preferred one first. */
  static async listen(targets: () => readonly string[]): Promise<Balancer> {
    const balancer = new Balancer(targets);
    balancer.#server.listen(0, "127.0.0.1");
    await once(balancer.#server, "listening");
    return balancer;
  }

  get address(): string {
    const address = this.#server.address();
    return address && typeof address === "object" ? `127.0.0.1:${address.port}` : "";
  }

  /** Cuts every connection; who redials lands on the first target again. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #accept(socket: Socket): void {
    this.#track(socket);
    this.#dial(socket, [...this.#targets()]);
  }

  #dial(socket: Socket, [target, ...others]: readonly string[]): void {
    if (!target) {
      socket.destroy();
      return;
    }
    const [host = "", port = "0"] = target.split(":");
    const upstream = connect(Number(port), host);
    this.#track(upstream);
    const refused = () => this.#dial(socket, others);
    upstream.once("error", refused);
    upstream.once("connect", () => {
      upstream.off("error", refused);
      socket.pipe(upstream).pipe(socket);
      socket.once("close", () => upstream.destroy());
      upstream.once("close", () => socket.destroy());
    });
  }

  #track(socket: Socket): void {
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.once("close", () => this.#sockets.delete(socket));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, "close");
  }
}
