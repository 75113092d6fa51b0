/**
 * A TCP proxy that fails as networks do: slow, narrow, silent in one direction or both, reset, or half open. What a black hole
 * swallows is held and arrives once it is healed, as TCP would send it again; nothing is ever reordered or invented.
 */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

export type Direction = "up" | "down";

export type Faults = {
  /** Each way. */
  readonly latencyMs: number;
  readonly bytesPerSecond: number;
  /** Directions in which nothing arrives any more, not even the end of a connection; `up` is from who dialled. */
  readonly silent: readonly Direction[];
  /** New connections are reset at once. */
  readonly refuse: boolean;
};

const HEALTHY: Faults = { latencyMs: 0, bytesPerSecond: Number.POSITIVE_INFINITY, silent: [], refuse: false };
/** Held for a slow reader before the sender is made to wait. */
const MAX_HELD = 1024 * 1024;

type Pair = { readonly client: Socket; readonly server: Socket; readonly up: Pump; readonly down: Pump };

export class FaultyProxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #targets: () => readonly string[];
  readonly #sockets = new Set<Socket>();
  readonly #pairs = new Set<Pair>();
  #faults = HEALTHY;

  private constructor(targets: () => readonly string[]) {
    this.#targets = targets;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
  }

  /** `targets` is asked anew for every connection: `host:port`, the first that takes it. */
  static async listen(targets: () => readonly string[]): Promise<FaultyProxy> {
    const proxy = new FaultyProxy(targets);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get address(): string {
    const address = this.#server.address();
    return address && typeof address === "object" ? `127.0.0.1:${address.port}` : "";
  }

  /** Connections that lead through to a target. */
  get connections(): number {
    return this.#pairs.size;
  }

  /** For the connections there are and those to come. */
  fail(faults: Partial<Faults>): void {
    this.#faults = { ...this.#faults, ...faults };
    for (const { up, down } of this.#pairs) {
      up.resume();
      down.resume();
    }
  }

  blackHole(...silent: readonly Direction[]): void {
    this.fail({ silent: silent.length > 0 ? silent : ["up", "down"] });
  }

  heal(): void {
    this.fail(HEALTHY);
  }

  /** Resets every connection on both sides; who redials gets through again. */
  reset(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Each connection vanishes on one side, while the other side stays open and never hears anything again. */
  halfOpen(keeps: "client" | "server"): void {
    for (const pair of [...this.#pairs]) {
      this.#pairs.delete(pair);
      pair.up.abandon();
      pair.down.abandon();
      (keeps === "client" ? pair.server : pair.client).resetAndDestroy();
      (keeps === "client" ? pair.client : pair.server).resume();
    }
  }

  #accept(client: Socket): void {
    this.#track(client);
    if (this.#faults.refuse) client.resetAndDestroy();
    else this.#dial(client, [...this.#targets()]);
  }

  #dial(client: Socket, [target, ...others]: readonly string[]): void {
    if (!target || client.destroyed) {
      client.resetAndDestroy();
      return;
    }
    const [host = "", port = "0"] = target.split(":");
    const server = connect({ port: Number(port), host, allowHalfOpen: true });
    this.#track(server);
    const refused = () => this.#dial(client, others);
    server.once("error", refused);
    server.once("connect", () => {
      server.off("error", refused);
      const faults = (direction: Direction) => () => ({
        ...this.#faults,
        silent: this.#faults.silent.includes(direction),
      });
      const up = new Pump(client, server, faults("up"));
      const down = new Pump(server, client, faults("down"));
      const pair = { client, server, up, down };
      this.#pairs.add(pair);
      const gone = () => {
        if (client.destroyed && server.destroyed) this.#pairs.delete(pair);
      };
      client.once("close", gone);
      server.once("close", gone);
    });
  }

  #track(socket: Socket): void {
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.once("close", () => this.#sockets.delete(socket));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }
}

type PumpFaults = { readonly latencyMs: number; readonly bytesPerSecond: number; readonly silent: boolean };
type Held = { readonly due: number; readonly bytes: Buffer | "end" | "reset" };

/** One direction of one connection. */
class Pump {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #faults: () => PumpFaults;
  readonly #held: Held[] = [];
  #heldBytes = 0;
  #freeAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #abandoned = false;
  #full = false;

  constructor(from: Socket, to: Socket, faults: () => PumpFaults) {
    this.#from = from;
    this.#to = to;
    this.#faults = faults;
    let ended = false;
    from.on("data", (bytes: Buffer) => this.#hold(bytes));
    from.once("end", () => {
      ended = true;
      this.#hold("end");
    });
    from.once("close", () => {
      if (!ended) this.#hold("reset");
    });
    to.on("drain", () => {
      this.#full = false;
      this.resume();
    });
    to.once("close", (failed: boolean) => {
      clearTimeout(this.#timer);
      this.#held.length = 0;
      // Who writes to a process that is gone is told so.
      if (failed && !this.#abandoned && !this.#faults().silent) from.resetAndDestroy();
    });
  }

  abandon(): void {
    this.#abandoned = true;
    clearTimeout(this.#timer);
    this.#held.length = 0;
  }

  #hold(bytes: Held["bytes"]): void {
    if (this.#abandoned) return;
    const size = typeof bytes === "string" ? 0 : bytes.length;
    const { latencyMs, bytesPerSecond } = this.#faults();
    this.#freeAt = Math.max(this.#freeAt, performance.now()) + (size / bytesPerSecond) * 1_000;
    this.#held.push({ due: this.#freeAt + latencyMs, bytes });
    this.#heldBytes += size;
    if (this.#heldBytes > MAX_HELD) this.#from.pause();
    this.resume();
  }

  /** Passes on what is due. */
  resume(): void {
    clearTimeout(this.#timer);
    while (!this.#abandoned && !this.#full && !this.#faults().silent) {
      const [first] = this.#held;
      if (!first) return;
      const early = first.due - performance.now();
      if (early > 0) {
        this.#timer = setTimeout(() => this.resume(), Math.ceil(early));
        return;
      }
      this.#held.shift();
      this.#pass(first.bytes);
    }
  }

  #pass(bytes: Held["bytes"]): void {
    if (bytes === "end") this.#to.end();
    else if (bytes === "reset") this.#to.resetAndDestroy();
    else {
      this.#heldBytes -= bytes.length;
      this.#full = !this.#to.write(bytes);
      if (this.#heldBytes <= MAX_HELD && !this.#from.destroyed) this.#from.resume();
    }
  }
}
