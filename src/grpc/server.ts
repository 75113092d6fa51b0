/**
 * A gRPC server without a port: listeners hand it sockets (already decrypted ones too) and it answers every call
 * through `ServerCall`. Limits are always set; grpc-js's defaults have none.
 */
import type { ServerHttp2Stream } from "node:http2";
import type { Duplex } from "node:stream";
import { promisify } from "node:util";
import {
  Server,
  ServerCredentials,
  ServerInterceptingCall,
  type ServerInterceptor,
  type ServerOptions,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { Millis } from "../../actors/actor.ts";
import { failed } from "../failed.ts";
import { type Clock, systemClock } from "../runtime/clock.ts";
import { type Answer, type BugReport, takeOver } from "./call.ts";

export type GrpcLimits = {
  /** Calls at once on one connection; more are refused by HTTP/2. */
  readonly maxConcurrentStreams: number;
  /** Largest message either way, bytes. */
  readonly maxMessageBytes: number;
  /** What one HTTP/2 session may hold, MiB. */
  readonly maxSessionMiB: number;
  /** A connection without a call for this long is closed: it may lead nowhere any more. */
  readonly maxIdleMs?: number;
};

export type GrpcService = { readonly definition: ServiceDefinition; readonly handlers: UntypedServiceImplementation };

export type GrpcServerOptions = {
  /** By path, `/package.Service/Method`. */
  readonly methods: ReadonlyMap<string, Answer>;
  /** Services with handlers of grpc-js's own kind. */
  readonly services?: readonly GrpcService[];
  /** Answers every other path; without it they are UNIMPLEMENTED. */
  readonly fallback?: Answer;
  readonly limits: GrpcLimits;
  readonly bug: BugReport;
  readonly clock?: Clock;
};

/** Between the end of a connection here and the other side's. */
const ENDED_WITHIN: Millis = 5_000;

export interface GrpcServer extends AsyncDisposable {
  /** Speaks HTTP/2 on it from now on and owns it. */
  inject(socket: Duplex): void;
  /** GOAWAY to every connection: running calls end, new ones go elsewhere. Resolves after the last call. */
  drain(): Promise<void>;
}

const identity = (bytes: Buffer): Buffer => bytes;
/** grpc-js wants a handler before it asks the interceptor, which never lets it run. */
const placeholder = (path: string) =>
  ({ func() {}, serialize: identity, deserialize: identity, type: "bidi", path }) as const;

const serverOptions = (limits: GrpcLimits): ServerOptions => ({
  "grpc.max_concurrent_streams": limits.maxConcurrentStreams,
  "grpc.max_receive_message_length": limits.maxMessageBytes,
  "grpc.max_send_message_length": limits.maxMessageBytes,
  "grpc-node.max_session_memory": limits.maxSessionMiB,
  "grpc.enable_channelz": 0,
  ...(limits.maxIdleMs !== undefined && { "grpc.max_connection_idle_ms": limits.maxIdleMs }),
});

export function createGrpcServer(options: GrpcServerOptions): GrpcServer {
  const { methods, services = [], fallback, limits, bug, clock = systemClock } = options;
  const paths = services.flatMap(({ definition }) => Object.values(definition).map(({ path }) => path));
  const plain = new Set(paths);
  const interceptor: ServerInterceptor = ({ path }, call) => {
    const answer = methods.get(path) ?? (plain.has(path) ? undefined : fallback);
    return answer ? takeOver(path, call, answer, bug) : new ServerInterceptingCall(call);
  };
  const server = new Server({ ...serverOptions(limits), interceptors: [interceptor] });
  for (const path of methods.keys()) server.register(path, placeholder(path).func, identity, identity, "bidi");
  for (const { definition, handlers } of services) server.addService(definition, handlers);
  if (fallback) acceptEveryPath(server);
  // Listeners decrypt, so for grpc-js every socket is plain.
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const sockets = new Set<Duplex>();
  let drained: Promise<void> | null = null;
  const drain = () => {
    drained ??= promisify(server.tryShutdown.bind(server))();
    return drained;
  };
  return {
    inject(socket) {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
      // Listeners leave sockets half-open; who stops sending can no more take an HTTP/2 answer, so that is the end here.
      socket.once("end", () => socket.end());
      // And who takes our end and never answers it is gone: HTTP/2 alone would wait for it without limit.
      socket.once("finish", () => {
        const answered = clock.schedule(clock.now() + ENDED_WITHIN, () => socket.destroy());
        socket.once("close", () => answered[Symbol.dispose]());
      });
      injector.injectConnection(socket);
    },
    drain,
    async [Symbol.asyncDispose]() {
      const closed = [...sockets].map((socket) => new Promise((resolve) => socket.once("close", resolve)));
      const gone = drain();
      // Not grpc-js's forceShutdown: it knows its sessions only when channelz is on.
      for (const socket of sockets) socket.destroy();
      await Promise.all([gone, ...closed]);
    },
  };
}

/** The HTTP/2 stream under a call, which grpc-js itself can end only once the other side has ended too. */
export function streamOf(call: object): ServerHttp2Stream | null {
  let inner: unknown = Reflect.get(call, "call");
  while (typeof inner === "object" && inner !== null) {
    const stream: unknown = Reflect.get(inner, "stream");
    if (stream) return stream as ServerHttp2Stream;
    inner = Reflect.get(inner, "nextCall");
  }
  return null;
}

/** grpc-js looks methods up in a private Map and has no handler for the rest. See docs/adr/0006-raw-routing.md. */
function acceptEveryPath(server: Server): void {
  const handlers: unknown = Reflect.get(server, "handlers");
  if (!(handlers instanceof Map)) throw failed("internal", "this version of grpc-js keeps its handlers elsewhere");
  const get = handlers.get.bind(handlers);
  handlers.get = (path: string) => get(path) ?? placeholder(path);
}
