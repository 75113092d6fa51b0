/** A small collector of traces: takes OTLP over HTTP in JSON, as every process of the demo is told to send it. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { text } from "node:stream/consumers";
import { createGunzip } from "node:zlib";
import { readSpans, type Span } from "./span.ts";

/** Traces kept; the oldest goes first. */
const MAX_TRACES = 1_000;

export class Collector implements AsyncDisposable {
  readonly #traces = new Map<string, Span[]>();
  readonly #server: Server;
  /** Called for each span that came. */
  onSpan: (span: Span) => void = () => {};

  private constructor() {
    this.#server = createServer((request, response) => void this.#receive(request, response));
  }

  static async listen(): Promise<Collector> {
    const collector = new Collector();
    const { promise, resolve } = Promise.withResolvers<void>();
    collector.#server.listen(0, "127.0.0.1", resolve);
    await promise;
    return collector;
  }

  get url(): string {
    const address = this.#server.address();
    return address && typeof address === "object" ? `http://127.0.0.1:${address.port}` : "";
  }

  /** The standard variables by which a process sends all its spans here, soon. */
  get env(): Readonly<Record<string, string>> {
    return {
      OTEL_EXPORTER_OTLP_ENDPOINT: this.url,
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_TRACES_SAMPLER: "parentbased_always_on",
      OTEL_BSP_SCHEDULE_DELAY: "50",
    };
  }

  trace(traceId: string): readonly Span[] {
    return this.#traces.get(traceId) ?? [];
  }

  async #receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const gzipped = request.headers["content-encoding"] === "gzip";
      const body = await text(gzipped ? request.pipe(createGunzip()) : request);
      if (request.url === "/v1/traces") for (const span of readSpans(JSON.parse(body))) this.#keep(span);
      response.writeHead(200, { "content-type": "application/json" }).end("{}");
    } catch {
      response.writeHead(400).end();
    }
  }

  #keep(span: Span): void {
    const known = this.#traces.get(span.traceId);
    if (known) known.push(span);
    else this.#traces.set(span.traceId, [span]);
    for (const oldest of this.#traces.keys()) {
      if (this.#traces.size <= MAX_TRACES) break;
      this.#traces.delete(oldest);
    }
    this.onSpan(span);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((closed) => this.#server.close(closed));
  }
}
