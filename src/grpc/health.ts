/**
 * grpc.health.v1 for every gRPC listener: the node's readiness under "" and under each service of the listener.
 * A watch is told at once and then of changes only.
 */
import type { DescFile } from "@bufbuild/protobuf";
import { Metadata, status } from "@grpc/grpc-js";
import { Health, HealthCheckResponse_ServingStatus as Serving } from "../gen/grpc/health/v1/health_pb.ts";
import { type Answer, OK } from "./call.ts";
import { decode, encode, methodPath, single } from "./service.ts";

export interface Readiness {
  ready(): boolean;
  /** Calls `changed` whenever `ready` may have changed, until disposed. */
  onChange(changed: () => void): Disposable;
}

type StatusOf = (service: string) => Serving;

const statusOf =
  (readiness: Readiness, services: readonly string[]): StatusOf =>
  (service) => {
    if (service !== "" && !services.includes(service)) return Serving.SERVICE_UNKNOWN;
    return readiness.ready() ? Serving.SERVING : Serving.NOT_SERVING;
  };

const check =
  (statusOf: StatusOf): Answer =>
  (call) => {
    const { input, output } = Health.method.check;
    const begin = (bytes: Buffer) => {
      const { service } = decode(input, bytes);
      const serving = statusOf(service);
      if (serving === Serving.SERVICE_UNKNOWN) {
        call.finish({ code: status.NOT_FOUND, details: `no service ${service} here`, metadata: new Metadata() });
        return;
      }
      call.send(encode(output, { status: serving }), () => {});
      call.finish(OK);
    };
    return single(call, begin, () => {});
  };

const watch =
  (readiness: Readiness, statusOf: StatusOf): Answer =>
  (call) => {
    const { input, output } = Health.method.watch;
    let subscription: Disposable | null = null;
    const begin = (bytes: Buffer) => {
      const { service } = decode(input, bytes);
      let told: Serving | null = null;
      let sending = false;
      // One answer at a time: a slow reader is told the latest state, not every one.
      const tell = () => {
        const serving = statusOf(service);
        if (sending || serving === told) return;
        told = serving;
        sending = true;
        call.send(encode(output, { status: serving }), () => {
          sending = false;
          tell();
        });
      };
      subscription = readiness.onChange(tell);
      tell();
    };
    return single(call, begin, () => subscription?.[Symbol.dispose]());
  };

/** The methods of the health service of a listener that serves the services of `files`. */
export function healthMethods(readiness: Readiness, files: readonly DescFile[]): ReadonlyMap<string, Answer> {
  const services = files.flatMap((file) => file.services.map(({ typeName }) => typeName));
  const of = statusOf(readiness, services);
  return new Map([
    [methodPath(Health.method.check), check(of)],
    [methodPath(Health.method.watch), watch(readiness, of)],
  ]);
}
