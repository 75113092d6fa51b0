/**
 * A request's body on its way to the upstream. It holds at most the credit its sender was given, because credit is
 * returned only as the upstream takes the bytes.
 */
import { Readable } from "node:stream";

export class RequestBody {
  #waiting: Buffer[] = [];
  #readable: Readable | null = null;
  #ended = false;

  get ended(): boolean {
    return this.#ended;
  }

  push(bytes: Uint8Array): void {
    const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (this.#readable) this.#readable.push(chunk);
    else this.#waiting.push(chunk);
  }

  end(): void {
    this.#ended = true;
    this.#readable?.push(null);
  }

  /** For the upstream, once: null when there is no body, a buffer when it is already whole, else a stream of what comes. */
  open(): Buffer | Readable | null {
    const waiting = this.take();
    if (this.#ended) return waiting.length > 1 ? Buffer.concat(waiting) : (waiting[0] ?? null);
    const readable = new Readable({ read() {} });
    // Whoever destroys it has reported why already; without a listener that would end the process.
    readable.on("error", () => {});
    for (const chunk of waiting) readable.push(chunk);
    this.#readable = readable;
    return readable;
  }

  /** What came so far, for an upgraded connection that writes it itself. */
  take(): Buffer[] {
    const waiting = this.#waiting;
    this.#waiting = [];
    return waiting;
  }

  destroy(): void {
    this.#waiting = [];
    this.#readable?.destroy();
  }
}
