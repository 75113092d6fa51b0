/** A request on an HTTP/1.1 socket. What is cut takes its socket along; a body that nobody wants is read on, within bounds. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { TLSSocket } from "node:tls";
import type { VisitContext } from "./visit.ts";
import type { AnswerFrame, Wire } from "./wire.ts";

export class Http1Wire implements Wire {
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #context: Pick<VisitContext, "clock" | "limits">;
  readonly hasBody: boolean;
  #endsByClose = false;
  #discardTimer: Disposable | null = null;

  constructor(req: IncomingMessage, res: ServerResponse, context: Pick<VisitContext, "clock" | "limits">) {
    this.#req = req;
    this.#res = res;
    this.#context = context;
    this.hasBody = announcesBody(req);
    req.on("error", ignore);
    res.on("error", ignore);
  }

  get method(): string | undefined {
    return this.#req.method;
  }

  get url(): string | undefined {
    return this.#req.url;
  }

  get rawHeaders(): readonly string[] {
    return this.#req.rawHeaders;
  }

  get bodyWhole(): boolean {
    return this.#req.complete;
  }

  get paused(): boolean {
    return this.#req.isPaused();
  }

  get left(): boolean {
    return this.#res.writableFinished;
  }

  onOver(over: () => void): void {
    this.#res.on("close", over);
  }

  readBody(data: (chunk: Buffer) => void, end: () => void): void {
    this.#req.on("data", data);
    this.#req.on("end", end);
  }

  pause(): void {
    this.#req.pause();
  }

  resume(): void {
    this.#req.resume();
  }

  discardRest(): void {
    if (this.#discardTimer || !this.hasBody || this.#req.complete) return;
    const { clock, limits } = this.#context;
    const { socket } = this.#req;
    let discarded = 0;
    this.#req.on("data", (chunk: Buffer) => {
      discarded += chunk.length;
      if (discarded > limits.discardBytes) socket.destroySoon();
    });
    this.#discardTimer = clock.schedule(clock.now() + limits.discardWithin, () => socket.destroy());
    // Once the answer has left, node:http tells the request no more that its socket closed.
    const over = () => {
      this.#discardTimer?.[Symbol.dispose]();
      socket.off("close", over);
    };
    this.#req.once("close", over);
    socket.once("close", over);
    this.#req.resume();
  }

  sayContinue(): void {
    this.#res.writeContinue();
  }

  head(status: number, flat: string[], { last, sized }: AnswerFrame): void {
    if (last) flat.push("connection", "close");
    this.#res.writeHead(status, flat);
    this.#endsByClose = !sized; // HTTP/1.0
  }

  flush(): void {
    this.#res.flushHeaders();
  }

  write(bytes: Uint8Array, taken: () => void): void {
    this.#res.write(bytes, (error) => {
      if (!error) taken();
    });
  }

  trailers(fields: [string, string][]): void {
    this.#res.addTrailers(fields);
  }

  end(bytes: Uint8Array | string | null): void {
    if (bytes === null) this.#res.end();
    else this.#res.end(bytes);
  }

  cut(): void {
    const { socket } = this.#req; // an answer that waits for its turn has none of its own
    if (this.#endsByClose && !this.#res.chunkedEncoding && !(socket instanceof TLSSocket)) socket.resetAndDestroy();
    else socket.destroy();
  }
}

/** Known before the headers are checked: node:http emits nothing for a body that is not there. */
const announcesBody = ({ headers }: IncomingMessage): boolean =>
  headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;

function ignore(): void {}
