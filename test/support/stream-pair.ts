/**
 * Two ends of one stream in memory, with the rules of src/link/stream.ts: order kept, DATA only under credit, frames
 * delivered on a later turn, RESET at once, `closed` once. What a sender has queued is bounded by nothing but its manners.
 */
import type { Reset, Stream, StreamHandler } from "../../src/link/stream.ts";

type Frame =
  | { readonly type: "accept" | "end" | "stop" }
  | { readonly type: "head" | "trailer" | "data"; readonly payload: Uint8Array };

const FRAME_BYTES = 32 * 1024;

class End implements Stream {
  readonly #window: number;
  #credit: number;
  #peer: End | null = null;
  #handler: StreamHandler | null = null;
  #frames: Frame[] = [];
  #scheduled = false;
  #accepted = false;
  #sentEnd = false;
  #ended = false;
  #peerEnded = false;
  #dropping = false;
  #over = false;
  queued = 0;
  /** Largest number of bytes the other side ever had in hand without returning credit for them. */
  mostOutstanding = 0;

  constructor(window: number) {
    this.#window = window;
    this.#credit = window;
  }

  join(peer: End, handler: StreamHandler): void {
    this.#peer = peer;
    this.#handler = handler;
    this.#schedule();
  }

  get over(): boolean {
    return this.#over;
  }

  accept(): void {
    this.#push({ type: "accept" });
  }
  head(payload: Uint8Array): void {
    this.#push({ type: "head", payload });
  }
  trailer(payload: Uint8Array): void {
    this.#push({ type: "trailer", payload });
  }
  stop(): void {
    this.#dropping = true;
    this.#push({ type: "stop" });
  }
  end(): void {
    if (this.#sentEnd) return;
    this.#push({ type: "end" });
    this.#sentEnd = true;
  }

  data(bytes: Uint8Array): void {
    if (this.#over || this.#sentEnd || bytes.length === 0) return;
    this.queued += bytes.length;
    this.#push({ type: "data", payload: bytes });
  }

  reset(reset: Reset): void {
    if (this.#over) return;
    const peer = this.#peer;
    this.#close();
    setImmediate(() => peer?.hearReset(reset));
  }

  consumed(bytes: number): void {
    this.#peer?.granted(bytes);
  }

  granted(bytes: number): void {
    this.#credit += bytes;
    this.#schedule();
  }

  hearReset(reset: Reset): void {
    if (this.#over) return;
    this.#handler?.reset(reset);
    this.#close();
  }

  hear(frame: Frame): void {
    if (this.#over) return;
    const handler = this.#handler;
    if (!handler) return;
    if ((frame.type === "accept" || frame.type === "head") && !this.#accepted) {
      this.#accepted = true;
      handler.accepted();
    }
    switch (frame.type) {
      case "accept":
        break;
      case "stop":
        handler.stopped();
        break;
      case "end":
        this.#peerEnded = true;
        handler.end();
        this.#closeIfDone();
        break;
      case "data":
        if (this.#dropping) this.consumed(frame.payload.length);
        else handler.data(frame.payload);
        break;
      case "head":
        handler.head(frame.payload);
        break;
      case "trailer":
        handler.trailer(frame.payload);
        break;
    }
  }

  #push(frame: Frame): void {
    if (this.#over || (this.#sentEnd && frame.type !== "stop")) return;
    this.#frames.push(frame);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || !this.#peer || this.#frames.length === 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    while (!this.#over) {
      const frame = this.#frames[0];
      if (!frame) return;
      if (frame.type !== "data") {
        this.#frames.shift();
        if (frame.type === "end") this.#ended = true;
        this.#peer?.hear(frame);
        this.#closeIfDone();
        continue;
      }
      const bytes = Math.min(frame.payload.length, this.#credit, FRAME_BYTES);
      if (bytes === 0) return;
      this.#credit -= bytes;
      this.mostOutstanding = Math.max(this.mostOutstanding, this.#window - this.#credit);
      const rest = frame.payload.subarray(bytes);
      if (rest.length > 0) this.#frames[0] = { type: "data", payload: rest };
      else this.#frames.shift();
      this.queued -= bytes;
      this.#peer?.hear({ type: "data", payload: frame.payload.subarray(0, bytes) });
      if (!this.#over) this.#handler?.sent(bytes);
    }
  }

  #closeIfDone(): void {
    if (this.#ended && this.#peerEnded) this.#close();
  }

  #close(): void {
    if (this.#over) return;
    this.#over = true;
    this.#frames = [];
    this.queued = 0;
    this.#handler?.closed();
  }
}

export type StreamEnd = Stream & { readonly over: boolean; readonly mostOutstanding: number };

/** Opens a stream: `serve` is the executing end, what is returned the end that opened it. */
export function streamPair(
  caller: StreamHandler,
  serve: (stream: StreamEnd) => StreamHandler,
  window = 64 * 1024,
): { readonly caller: StreamEnd; readonly executor: StreamEnd } {
  const opened = new End(window);
  const served = new End(window);
  const handler = serve(served);
  opened.join(served, caller);
  served.join(opened, handler);
  return { caller: opened, executor: served };
}
