/** A caller of the executor in tests: opens a stream, records the answer and takes it as fast, or as slowly, as it is told. */
import type { AgentId, RequestId } from "../../actors/ids.ts";
import { createExecutor, type Executor, type ExecutorOptions } from "../../src/agentk/executor.ts";
import { builtInMethods, createGrpcMethods } from "../../src/agentk/grpc-methods.ts";
import { apiServerUpstream, createUpstreams } from "../../src/agentk/upstream.ts";
import { decodeHead, decodeTrailer, type Head, type Open, type Trailer } from "../../src/link/messages.ts";
import type { Reset, StreamHandler } from "../../src/link/stream.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { type StreamEnd, streamPair } from "../support/stream-pair.ts";

export const anOpen = (fields: Partial<Open> = {}): Open => ({
  requestId: "r1" as RequestId,
  agentId: 1 as AgentId,
  prefer: 0,
  exclude: [],
  kind: "http",
  target: { type: "kubernetes" },
  acceptWithin: 5_000,
  timeLeft: 0,
  traceparent: "",
  tracestate: "",
  idempotent: false,
  upgrade: false,
  class: "unary",
  caller: { kind: "rails", id: "", as: null },
  method: "GET",
  path: "/",
  headers: [],
  ...fields,
});

export class Caller implements StreamHandler {
  readonly chunks: Uint8Array[] = [];
  readonly stream: StreamEnd;
  readonly executor: StreamEnd;
  head_: Head | null = null;
  trailer_: Trailer | null = null;
  reset_: Reset | null = null;
  wasAccepted = false;
  wasStopped = false;
  ended = false;
  isClosed = false;
  bytes = 0;
  sentBytes = 0;
  /** Taken at once unless false; then `take` takes what lies there. */
  reading = true;
  #changed: (() => void)[] = [];

  constructor(execute: Executor, open: Partial<Open> = {}, { end = true, window = 64 * 1024 } = {}) {
    const pair = streamPair(this, (stream) => execute(anOpen(open), stream), window);
    this.stream = pair.caller;
    this.executor = pair.executor;
    if (end) this.stream.end();
  }

  /** Resolves as soon as `condition` holds; looked at whenever the stream tells anything. */
  async until(condition: (caller: this) => boolean): Promise<this> {
    while (!condition(this)) await new Promise<void>((resolve) => this.#changed.push(resolve));
    return this;
  }
  readonly done = () => this.until((c) => c.isClosed);

  get text(): string {
    return Buffer.concat(this.chunks).toString();
  }
  header(name: string): string | undefined {
    const headers = this.head_?.headers ?? [];
    return headers[headers.indexOf(name) + 1];
  }
  take(): void {
    this.reading = true;
    this.stream.consumed(this.#untaken);
    this.#untaken = 0;
  }
  #untaken = 0;

  accepted(): void {
    this.wasAccepted = true;
    this.#tell();
  }
  head(payload: Uint8Array): void {
    this.head_ = decodeHead(payload);
    this.#tell();
  }
  data(bytes: Uint8Array): void {
    this.chunks.push(bytes);
    this.bytes += bytes.length;
    if (this.reading) this.stream.consumed(bytes.length);
    else this.#untaken += bytes.length;
    this.#tell();
  }
  trailer(payload: Uint8Array): void {
    this.trailer_ = decodeTrailer(payload);
    this.#tell();
  }
  end(): void {
    this.ended = true;
    this.#tell();
  }
  stopped(): void {
    this.wasStopped = true;
    this.#tell();
  }
  reset(reset: Reset): void {
    this.reset_ = reset;
    this.#tell();
  }
  sent(bytes: number): void {
    this.sentBytes += bytes;
    this.#tell();
  }
  closed(): void {
    this.isClosed = true;
    this.#tell();
  }

  #tell(): void {
    const waiting = this.#changed;
    this.#changed = [];
    for (const resolve of waiting) resolve();
  }
}

export type TestExecutor = AsyncDisposable & { readonly execute: Executor };

/** An executor in front of a plain-text API server and services on loopback. */
export function executorTo(
  url: string,
  options: Partial<ExecutorOptions> & { readonly services?: Record<string, string>; readonly token?: string } = {},
): TestExecutor {
  const server = { url: new URL(url), tls: {}, credential: { type: "none" }, impersonates: null } as const;
  const api = apiServerUpstream(server, { value: options.token ?? "", renew() {} });
  const upstreams = options.upstreams ?? createUpstreams(api, new Map(Object.entries(options.services ?? {})));
  const execute = createExecutor({
    upstreams,
    methods: createGrpcMethods(builtInMethods({ echo: true })),
    clock: systemClock,
    ...options,
  });
  return { execute, [Symbol.asyncDispose]: () => upstreams[Symbol.asyncDispose]() };
}
