/**
 * The server's end of the call that carries an agent link, over grpc-js. At most two batches are in gRPC's hands, counted by
 * write callbacks, because its `write() === false` counts messages and not bytes. `http2-call.ts` is the client's end.
 */
import { type ServerDuplexStream, status } from "@grpc/grpc-js";
import type { Carrier } from "../link.ts";
import {
  batchesOf,
  decodeMessage,
  encodeMessage,
  MAX_BATCH_BYTES,
  MAX_BATCHES,
  MAX_RECEIVED_BYTES,
} from "./call-message.ts";

/** Codec for the call's method: buffers as they are. */
export const identity = (bytes: Buffer): Buffer => bytes;

/** Options for the server under such calls; its windows are set by `server-window.ts`. */
export const GRPC_LIMITS = {
  "grpc.max_receive_message_length": MAX_RECEIVED_BYTES,
  "grpc.max_send_message_length": MAX_RECEIVED_BYTES,
} as const;

type Call = ServerDuplexStream<Buffer, Buffer>;

class ServerCall implements Carrier {
  readonly maxBatchBytes = MAX_BATCH_BYTES;
  readonly maxBatches = MAX_BATCHES;
  onData: (chunk: Uint8Array) => void = () => {};
  onClosed: (reason: string) => void = () => {};
  readonly #call: Call;
  readonly #abort: () => void;
  #closed = false;
  #ending = false;
  readonly #receive = (bytes: Uint8Array) => this.onData(bytes);

  constructor(call: Call, abort: () => void) {
    this.#call = call;
    this.#abort = abort;
    call.on("data", (message: Buffer) => {
      if (!decodeMessage(message, this.#receive)) this.destroy();
    });
    call.on("end", () => this.end());
    call.on("error", () => {});
    call.once("cancelled", () => this.#over("the call was ended by the agent or its connection was lost"));
    call.once("close", () => this.#over("the call was ended"));
  }

  write(batch: readonly Uint8Array[], bytes: number, taken: () => void): void {
    if (this.#closed || this.#ending) return;
    let left = bytes;
    for (const [parts, size] of batchesOf(batch, bytes)) {
      left -= size;
      if (left === 0) this.#call.write(encodeMessage(parts, size), taken);
      else this.#call.write(encodeMessage(parts, size));
    }
  }

  end(): void {
    if (this.#closed || this.#ending) return;
    this.#ending = true;
    this.#call.end();
  }

  destroy(): void {
    if (this.#closed) return;
    this.#ending = true;
    this.#abort();
    this.#over("the call was ended here");
  }

  #over(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.onClosed(reason);
  }
}

/**
 * gRPC has no way to end a call whose other side takes nothing more; `abort` may do so by destroying the socket under it.
 * Without it the call ends with a status as soon as what was written could leave.
 */
export function serverCallCarrier(call: Call, abort?: () => void): Carrier {
  const end = () => call.emit("error", { code: status.UNAVAILABLE, details: "the link was ended" });
  return new ServerCall(call, abort ?? end);
}
