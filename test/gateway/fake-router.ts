/**
 * A cluster with one agent, 7, in memory: streams behave as the router's do (credit, order, failures on a later turn).
 * What the agent does is chosen by the path of the request, or by the name of the gRPC method.
 */
import { type Failure, failure } from "../../actors/failure.ts";
import type { RequestId } from "../../actors/ids.ts";
import type { RoutedStream, RouteRequest, Router } from "../../src/cluster/router.ts";
import { encodeHead, encodeOpen, encodeTrailer } from "../../src/link/messages.ts";
import type { Reset, StreamHandler } from "../../src/link/stream.ts";

export const WINDOW = 256 * 1024;
const FRAME = 32 * 1024;

/** What a fake agent may do with one stream. */
export interface Served {
  readonly request: RouteRequest;
  head(status: number, headers?: readonly string[]): void;
  /** Sends in frames as credit allows; resolves when all of it was taken, or the stream is over. */
  data(bytes: Uint8Array): Promise<void>;
  trailer(status: number, message?: string, headers?: readonly string[]): void;
  end(): void;
  stop(): void;
  fail(failure: Failure): void;
  /** The request's next bytes, null at its end. Reading takes them off the sender's `queued`. */
  read(): Promise<Uint8Array | null>;
  readonly over: boolean;
}

export type Behaviour = (served: Served) => Promise<void> | void;

export class FakeRouter implements Router {
  readonly requests: RouteRequest[] = [];
  readonly resets: Reset[] = [];
  /** DATA given to handlers and not yet consumed; the most there was. */
  unconsumed = 0;
  peakUnconsumed = 0;
  /** Most bytes of a request that waited for a slow agent. */
  peakQueued = 0;
  streams = 0;
  readonly #behaviours = new Map<string, Behaviour>();

  on(name: string, behaviour: Behaviour): this {
    this.#behaviours.set(name, behaviour);
    return this;
  }

  behaviourOf({ agentId, kind, method, path }: RouteRequest): Behaviour {
    if (agentId !== 7) return ({ fail }) => fail(failure("agent-offline", `agent ${agentId} is not connected`));
    const name = kind === "grpc" ? method : (path.split("?")[0] ?? "");
    const behaviour = this.#behaviours.get(name);
    if (!behaviour) throw new Error(`no behaviour for ${name}`);
    return behaviour;
  }

  open(request: RouteRequest, handler: StreamHandler): RoutedStream {
    const { trace, ...rest } = request;
    // The codec takes it, or the test fails here.
    encodeOpen({ ...rest, requestId: "r" as RequestId, prefer: 0, exclude: [], traceparent: "", tracestate: "" });
    this.requests.push(request);
    return openStream(this, request, handler);
  }
}

function openStream(router: FakeRouter, request: RouteRequest, handler: StreamHandler): RoutedStream {
  const body: Uint8Array[] = [];
  let queued = 0;
  let credit = WINDOW;
  let [bodyEnded, answerEnded, over] = [false, false, false];
  let waiting: (() => void)[] = [];
  router.streams += 1;

  const wake = () => {
    for (const resume of waiting.splice(0)) resume();
  };
  const changed = () => new Promise<void>((resume) => waiting.push(resume));
  const close = (tell: () => void) => {
    if (over) return;
    over = true;
    router.streams -= 1;
    tell();
    wake();
    waiting = [];
  };
  const closeIfDone = () => {
    if (bodyEnded && answerEnded) close(() => handler.closed());
  };

  const served: Served = {
    request,
    get over() {
      return over;
    },
    head: (status, headers = []) => over || handler.head(encodeHead({ status, headers })),
    async data(bytes) {
      for (let at = 0; at < bytes.length && !over; ) {
        if (credit === 0) {
          await changed();
          continue;
        }
        const piece = bytes.subarray(at, at + Math.min(credit, FRAME));
        at += piece.length;
        credit -= piece.length;
        router.unconsumed += piece.length;
        router.peakUnconsumed = Math.max(router.peakUnconsumed, router.unconsumed);
        handler.data(piece);
      }
    },
    trailer: (status, message = "", headers = []) =>
      over || handler.trailer(encodeTrailer({ status, message, headers })),
    end() {
      if (over) return;
      answerEnded = true;
      handler.end();
      closeIfDone();
    },
    stop: () => over || handler.stopped(),
    fail: (why) =>
      close(() => {
        handler.reset({ failure: why, unprocessed: false });
        handler.closed();
      }),
    async read() {
      while (!over) {
        const piece = body.shift();
        if (piece) {
          queued -= piece.length;
          handler.sent(piece.length);
          return piece;
        }
        if (bodyEnded) return null;
        await changed();
      }
      return null;
    },
  };

  const behaviour = router.behaviourOf(request);
  setImmediate(() => {
    if (over) return;
    handler.accepted();
    void behaviour(served);
  });

  return {
    requestId: "fake-1",
    route: null,
    get queued() {
      return queued;
    },
    accept() {},
    head() {},
    trailer() {},
    stop() {},
    data(bytes) {
      if (over) return;
      queued += bytes.length;
      router.peakQueued = Math.max(router.peakQueued, queued);
      body.push(bytes);
      wake();
    },
    end() {
      bodyEnded = true;
      wake();
      closeIfDone();
    },
    reset: (reset) =>
      close(() => {
        router.resets.push(reset);
        handler.closed();
      }),
    consumed(bytes) {
      router.unconsumed -= bytes;
      credit += bytes;
      wake();
    },
  };
}
