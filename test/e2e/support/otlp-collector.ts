/** An OTLP/HTTP collector (protobuf or JSON) that keeps the spans it is sent. It reads only what tests look at. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { buffer } from "node:stream/consumers";
import { gunzipSync } from "node:zlib";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";

export type CollectedSpan = {
  readonly service: string;
  readonly instance: string;
  readonly traceId: string;
  readonly spanId: string;
  /** "" for a root. */
  readonly parentId: string;
  readonly name: string;
  readonly kind: "INTERNAL" | "SERVER" | "CLIENT" | "PRODUCER" | "CONSUMER" | "UNSPECIFIED";
  readonly links: readonly string[];
};

const KINDS = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"] as const;

/** Fields of one message by number: bytes of each length-delimited one, value of each varint. */
type Fields = {
  readonly bytes: ReadonlyMap<number, readonly Uint8Array[]>;
  readonly numbers: ReadonlyMap<number, number>;
};

function fields(message: Uint8Array): Fields {
  const reader = new BinaryReader(message);
  const bytes = new Map<number, Uint8Array[]>();
  const numbers = new Map<number, number>();
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    if (type === WireType.LengthDelimited) bytes.set(number, [...(bytes.get(number) ?? []), reader.bytes()]);
    else if (type === WireType.Varint) numbers.set(number, reader.uint32());
    else reader.skip(type);
  }
  return { bytes, numbers };
}

const all = (message: Uint8Array, number: number) => fields(message).bytes.get(number) ?? [];
const hex = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString("hex");
const text = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString();

/** Text attributes of KeyValue messages. */
function attributes(pairs: readonly Uint8Array[]): ReadonlyMap<string, string> {
  return new Map(pairs.map((pair) => [text(all(pair, 1)[0]), text(all(all(pair, 2)[0] ?? new Uint8Array(), 1)[0])]));
}

function decodeSpan(message: Uint8Array, resource: ReadonlyMap<string, string>): CollectedSpan {
  const { bytes, numbers } = fields(message);
  return {
    service: resource.get("service.name") ?? "",
    instance: resource.get("service.instance.id") ?? "",
    traceId: hex(bytes.get(1)?.[0]),
    spanId: hex(bytes.get(2)?.[0]),
    parentId: hex(bytes.get(4)?.[0]),
    name: text(bytes.get(5)?.[0]),
    kind: KINDS[numbers.get(6) ?? 0] ?? "UNSPECIFIED",
    links: (bytes.get(13) ?? []).map((link) => hex(all(link, 1)[0])),
  };
}

/** ExportTraceServiceRequest in protobuf. */
function decode(body: Uint8Array): readonly CollectedSpan[] {
  return all(body, 1).flatMap((resourceSpans) => {
    const resource = attributes(all(all(resourceSpans, 1)[0] ?? new Uint8Array(), 1));
    return all(resourceSpans, 2).flatMap((scope) => all(scope, 2).map((span) => decodeSpan(span, resource)));
  });
}

export class OtlpCollector implements AsyncDisposable {
  readonly spans: CollectedSpan[] = [];
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => void this.#receive(request, response));
  }

  static async listen(): Promise<OtlpCollector> {
    const collector = new OtlpCollector();
    collector.#server.listen(0, "127.0.0.1");
    await once(collector.#server, "listening");
    return collector;
  }

  /** What makes a process send its spans here, soon and all of them. */
  get env(): Readonly<Record<string, string>> {
    const address = this.#server.address();
    const port = address && typeof address === "object" ? address.port : 0;
    return {
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf",
      OTEL_TRACES_SAMPLER: "parentbased_always_on",
      OTEL_BSP_SCHEDULE_DELAY: "100",
    };
  }

  async #receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await buffer(request);
    if (request.url?.endsWith("/traces")) {
      this.spans.push(...decode(request.headers["content-encoding"] === "gzip" ? gunzipSync(body) : body));
    }
    response.writeHead(200, { "content-type": "application/x-protobuf" }).end();
  }

  /** The span and its ancestors, itself first. */
  ancestry(span: CollectedSpan): readonly CollectedSpan[] {
    const parent = this.spans.find(({ traceId, spanId }) => traceId === span.traceId && spanId === span.parentId);
    return parent ? [span, ...this.ancestry(parent)] : [span];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}
