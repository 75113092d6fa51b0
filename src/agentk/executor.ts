/**
 * Executes the streams that kas opens on this agent: HTTP against an upstream that the operator allows, gRPC by the methods
 * the agent itself serves. Whatever is refused here is refused before anything was sent.
 */
import { failure } from "../../actors/failure.ts";
import type { Open } from "../link/messages.ts";
import type { Stream, StreamHandler } from "../link/stream.ts";
import type { Clock } from "../runtime/clock.ts";
import { Exchange } from "./exchange.ts";
import type { GrpcMethods } from "./grpc-methods.ts";
import { type ObserveExecution, observed } from "./observation.ts";
import type { Upstreams } from "./upstream.ts";
import { requestFor } from "./upstream-request.ts";

export type ExecutorOptions = {
  readonly upstreams: Upstreams;
  readonly methods: GrpcMethods;
  readonly clock: Clock;
  /** Told of every HTTP execution when it ended. */
  readonly observe?: ObserveExecution;
};

/** Throws `Failed` to refuse. */
export type Executor = (open: Open, stream: Stream) => StreamHandler;

export function createExecutor({ upstreams, methods, clock, observe }: ExecutorOptions): Executor {
  return (open, stream) => {
    if (open.kind === "grpc") return methods.serve(open.method, stream);
    const observation = observed(open, clock, observe);
    const upstream = upstreams.find(open.target);
    const request = "code" in upstream ? upstream : requestFor(open, upstream);
    if ("code" in upstream || "code" in request) {
      // Every connection of this agent is configured alike, so another one need not be tried: not `unprocessed`.
      const refused = "code" in request ? request : failure("internal", "no request");
      queueMicrotask(() => stream.reset({ failure: refused, unprocessed: false }));
      observation.ended(refused.code, 0);
      return REFUSED;
    }
    return new Exchange({ open, stream, upstream, request, clock, observation });
  };
}

const ignore = (): void => {};
/** A stream that was reset hears no more than `closed`. */
const REFUSED: StreamHandler = {
  accepted: ignore,
  head: ignore,
  data: ignore,
  trailer: ignore,
  end: ignore,
  stopped: ignore,
  reset: ignore,
  sent: ignore,
  closed: ignore,
};
