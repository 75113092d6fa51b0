/**
 * A request's body on its way to the upstream. It holds at most the credit its sender was given, because credit is
 * returned only as the upstream takes the bytes.
 */
import { Readable } from "node:stream";

export class RequestBody {
  #waiting: Buffer[] = [];
  #readable: Readable | null = null;
  #ended = false;
  #due = false;

  get ended(): boolean {
    return this.#ended;
  }

  push(bytes: Uint8Array): void {
    const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#waiting.push(chunk);
    if (!this.#readable || this.#due) return;
    this.#due = true;
    setImmediate(this.#flush);
  }

  end(): void {
    this.#ended = true;
    this.#flush();
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

  /** HTTP/2 gives its frames of 16 KiB one by one; the upstream gets those of a turn in one write. */
  readonly #flush = (): void => {
    this.#due = false;
    if (!this.#readable || this.#waiting.length === 0) return;
    const [first, ...more] = this.take();
    this.#readable.push(more.length > 0 && first ? Buffer.concat([first, ...more]) : first);
  };
}
