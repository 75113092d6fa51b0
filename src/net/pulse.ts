/**
 * Asks the kernel about sockets that have been silent. One that nobody reads at the moment hears of nothing, neither of a reset
 * nor of keepalives that nobody answered, until it is used; an empty write uses it and sends nothing.
 */
import type { Socket } from "node:net";
import type { Millis } from "../../actors/actor.ts";
import type { Clock } from "../runtime/clock.ts";

const NOTHING = Buffer.alloc(0);

type Asked = { bytesRead: number; users: Socket | null };

export class Pulse implements Disposable {
  readonly #sockets = new Map<Socket, Asked>();
  /** Those whose handshake is not done, by their other end. */
  readonly #greeting = new Map<string, Asked>();
  readonly #clock: Clock;
  readonly #every: Millis;
  #timer: Disposable;

  constructor(clock: Clock, every: Millis) {
    this.#clock = clock;
    this.#every = every;
    this.#timer = this.#schedule();
  }

  /** `tls`: what its user gets is another socket, and comes by `secured`. */
  accepted(socket: Socket, tls: boolean): void {
    const asked: Asked = { bytesRead: 0, users: tls ? null : socket };
    this.#sockets.set(socket, asked);
    const end = endOf(socket);
    if (tls) this.#greeting.set(end, asked);
    socket.once("close", () => {
      this.#sockets.delete(socket);
      if (this.#greeting.get(end) === asked) this.#greeting.delete(end);
    });
  }

  secured(secure: Socket): void {
    const end = endOf(secure);
    const asked = this.#greeting.get(end);
    this.#greeting.delete(end);
    if (asked) asked.users = secure;
  }

  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]();
  }

  #schedule(): Disposable {
    return this.#clock.schedule(this.#clock.now() + this.#every, () => {
      for (const [socket, asked] of this.#sockets) {
        const { bytesRead } = socket;
        if (bytesRead === asked.bytesRead && mayAsk(socket, asked.users)) socket.write(NOTHING);
        asked.bytesRead = bytesRead;
      }
      this.#timer = this.#schedule();
    });
  }
}

/** After our end a write of any length fails; and it would put off the timeout of a socket that waits for its next request. */
const mayAsk = (socket: Socket, users: Socket | null): boolean =>
  users?.writable === true && socket.writable && !users.timeout;

/** A TLS socket does not tell which one it came over, but both have the same other end. */
const endOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`;
