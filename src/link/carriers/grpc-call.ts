/**
 * The server's end of the call that carries an agent link: grpc-js accepts and ends the call, its bytes are read and written
 * here, on the HTTP/2 stream under it, so that no message is gathered or copied (ADR 0009). At most two batches are in
 * HTTP/2's hands, counted by write callbacks. `http2-call.ts` is the client's end.
 */
import type { ServerHttp2Stream } from "node:http2";
import { Metadata, type ServerDuplexStream, status } from "@grpc/grpc-js";
import type { Carrier } from "../link.ts";
import {
  batchesOf,
  CallReader,
  encodePrefixed,
  MAX_BATCH_BYTES,
  MAX_BATCHES,
  MAX_RECEIVED_BYTES,
} from "./call-message.ts";
import { writeTogether } from "./write-together.ts";

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
  readonly #stream: ServerHttp2Stream;
  readonly #reader = new CallReader((bytes) => this.onData(bytes));
  #closed = false;
  #ending = false;

  constructor(call: Call, stream: ServerHttp2Stream) {
    this.#call = call;
    this.#stream = stream;
    call.on("error", () => {});
    call.once("cancelled", () => this.#over("the call was ended by the agent or its connection was lost"));
    call.once("close", () => this.#over("the call was ended"));
    call.sendMetadata(new Metadata());
    stream.removeAllListeners("data"); // grpc-js's own
    stream.on("data", (chunk: Buffer) => {
      if (!this.#closed && !this.#reader.feed(chunk)) this.destroy();
    });
    stream.once("end", () => this.end());
    stream.resume();
  }

  write(batch: readonly Uint8Array[], bytes: number, taken: () => void): void {
    if (this.#closed || this.#ending) return;
    let left = bytes;
    for (const [parts, size] of batchesOf(batch, bytes)) {
      left -= size;
      writeTogether(this.#stream, encodePrefixed(parts, size), left === 0 ? taken : null);
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
    // gRPC has no way to end a call whose other side takes nothing more: it ends as soon as what was written could leave.
    this.#call.emit("error", { code: status.UNAVAILABLE, details: "the link was ended" });
    this.#over("the call was ended here");
  }

  #over(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.onClosed(reason);
  }
}

/** `stream`: the HTTP/2 stream under the call, of which grpc-js must have read nothing yet. */
export const serverCallCarrier = (call: Call, stream: ServerHttp2Stream): Carrier => new ServerCall(call, stream);
