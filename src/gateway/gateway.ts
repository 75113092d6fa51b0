/** The Rails listener's gRPC server: Gateway, health, reflection, and raw routing for everything else. */
import type { DescFile } from "@bufbuild/protobuf";
import type { Directory, Router } from "../cluster/router.ts";
import { file_grpc_health_v1_health } from "../gen/grpc/health/v1/health_pb.ts";
import { file_grpc_reflection_v1_reflection } from "../gen/grpc/reflection/v1/reflection_pb.ts";
import { file_grpc_reflection_v1alpha_reflection } from "../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { file_kas_gateway_v1_gateway, Gateway } from "../gen/kas/gateway/v1/gateway_pb.ts";
import { healthMethods, type Readiness } from "../grpc/health.ts";
import { reflectionMethods } from "../grpc/reflection.ts";
import { createGrpcServer, type GrpcLimits, type GrpcServer } from "../grpc/server.ts";
import { methodPath } from "../grpc/service.ts";
import { explainRoute, listAgents, watchAgents } from "./agents.ts";
import { MAX_MESSAGE_BYTES } from "./codec.ts";
import { type GuardedAnswer, type GuardOptions, guard } from "./guard.ts";
import { rawRouting } from "./raw.ts";
import { request } from "./request.ts";
import { stream } from "./stream.ts";

/** Services besides Gateway that Rails may call on the same listener. */
export type RailsServices = {
  readonly files: readonly DescFile[];
  /** By path; all of them need Rails' JWT. */
  readonly methods: ReadonlyMap<string, GuardedAnswer>;
};

export type GatewayOptions = GuardOptions & {
  readonly router: Router;
  readonly directory: Directory;
  readonly readiness: Readiness;
  readonly services?: RailsServices;
  readonly limits?: Partial<GrpcLimits>;
};

/** A raw message of 4 MiB is exactly allowed, and one a little above is refused by us, with a failure code. */
const LIMITS: GrpcLimits = {
  maxConcurrentStreams: 100,
  maxMessageBytes: MAX_MESSAGE_BYTES + 64 * 1024,
  maxSessionMiB: 64,
};

const FILES = [
  file_kas_gateway_v1_gateway,
  file_grpc_health_v1_health,
  file_grpc_reflection_v1_reflection,
  file_grpc_reflection_v1alpha_reflection,
];

const gatewayMethods = (router: Router, directory: Directory): ReadonlyMap<string, GuardedAnswer> =>
  new Map([
    [methodPath(Gateway.method.request), request(router)],
    [methodPath(Gateway.method.stream), stream(router)],
    [methodPath(Gateway.method.listAgents), listAgents(directory)],
    [methodPath(Gateway.method.watchAgents), watchAgents(directory)],
    [methodPath(Gateway.method.explainRoute), explainRoute(directory)],
  ]);

export function createGateway(options: GatewayOptions): GrpcServer {
  const { router, directory, readiness, services, limits, bug } = options;
  const files = [...FILES, ...(services?.files ?? [])];
  const guarded = [...gatewayMethods(router, directory), ...reflectionMethods(files), ...(services?.methods ?? [])].map(
    ([path, answer]) => [path, guard(options, path.slice(1), answer)] as const,
  );
  return createGrpcServer({
    methods: new Map([...guarded, ...healthMethods(readiness, files)]),
    fallback: rawRouting(options, router),
    limits: { ...LIMITS, ...limits },
    bug,
  });
}
