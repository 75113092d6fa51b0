/** The carrier of a peer link: one TCP or TLS socket that the link owns from now on. Frames follow each other without more framing. */
import type { Socket } from "node:net";
import type { Carrier } from "../link.ts";
import { writeTogether } from "./write-together.ts";

const MAX_BATCH_BYTES = 256 * 1024;
const MAX_BATCHES = 2;

class SocketCarrier implements Carrier {
  readonly maxBatchBytes = MAX_BATCH_BYTES;
  readonly maxBatches = MAX_BATCHES;
  onData: (chunk: Uint8Array) => void = () => {};
  onClosed: (reason: string) => void = () => {};
  readonly #socket: Socket;
  #reason = "the socket was closed";

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (chunk) => this.onData(chunk));
    socket.on("error", (error) => {
      this.#reason = error.message;
    });
    // A listener may allow half-open sockets; a link knows none: who has ended will never answer.
    socket.once("end", () => socket.end());
    socket.once("close", () => this.onClosed(this.#reason));
  }

  write(batch: readonly Uint8Array[], _bytes: number, taken: () => void): void {
    writeTogether(this.#socket, batch, taken);
  }

  end(): void {
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

/** Takes a connected socket; attach it in the turn in which it was handed over, so that no byte is missed. */
export const socketCarrier = (socket: Socket): Carrier => new SocketCarrier(socket);
