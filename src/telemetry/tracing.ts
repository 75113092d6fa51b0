/**
 * Tracing by the standard OTEL_* variables: nothing of the SDK is loaded unless one of them asks for an exporter. Only
 * spans are exported (metrics and logs have their own ways), nothing is instrumented automatically, and contexts are
 * passed as arguments, so there is no context manager.
 */
import { context, type DiagLogger, DiagLogLevel, diag, propagation, trace } from "@opentelemetry/api";
import type { Millis } from "../../actors/actor.ts";

export type TracingOptions = {
  /** `kas` or `agentk`; OTEL_SERVICE_NAME wins. */
  readonly service: string;
  readonly instance: string;
  readonly version: string;
  /** Decides whether to start. The SDK itself reads its settings from the environment of the process. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** How long the last spans may take to leave; 5 s when not given. */
  readonly shutdownWithin?: Millis;
  readonly warn?: (message: string, cause?: unknown) => void;
};

export interface Tracing extends AsyncDisposable {
  readonly active: boolean;
}

const SHUTDOWN_MS = 5_000;

const OFF: Tracing = { active: false, [Symbol.asyncDispose]: async () => {} };

/** Do the variables ask for an exporter of traces? */
export function wantsTracing(env: TracingOptions["env"]): boolean {
  if (env.OTEL_SDK_DISABLED?.trim().toLowerCase() === "true") return false;
  const exporters = (env.OTEL_TRACES_EXPORTER ?? "").split(",").map((name) => name.trim());
  if (exporters.includes("none")) return false;
  const asked = [env.OTEL_EXPORTER_OTLP_ENDPOINT, env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, ...exporters];
  return asked.some((value) => Boolean(value?.trim()));
}

/** Never throws: a service without traces is better than none. */
export async function startTracing(options: TracingOptions): Promise<Tracing> {
  if (!wantsTracing(options.env)) return OFF;
  try {
    return await start(options);
  } catch (cause) {
    options.warn?.("tracing could not be started; going on without", cause);
    return OFF;
  }
}

async function start({ service, instance, version, env, shutdownWithin, warn }: TracingOptions): Promise<Tracing> {
  const { startNodeSdk } = await import("@opentelemetry/sdk-node");
  const sdk = startNodeSdk({
    logLevel: "error",
    resourceAttributes: {
      "service.name": env.OTEL_SERVICE_NAME ?? service,
      "service.version": version,
      "service.instance.id": instance,
    },
    metricReaders: [],
    logRecordProcessors: [],
    propagators: [],
  });
  context.disable();
  diag.setLogger(quiet(warn ?? (() => {})), { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true });
  return {
    active: true,
    async [Symbol.asyncDispose]() {
      const { promise: late, resolve } = Promise.withResolvers<"late">();
      const timer = setTimeout(resolve, shutdownWithin ?? SHUTDOWN_MS, "late");
      const done = sdk.shutdown().catch((cause: unknown) => warn?.("the last spans could not be exported", cause));
      if ((await Promise.race([done, late])) === "late") warn?.("the last spans were not exported in time");
      clearTimeout(timer);
      trace.disable();
      propagation.disable();
      diag.disable();
    },
  };
}

/** What the SDK complains of goes where our own records go, never to stdout. */
function quiet(warn: (message: string, cause?: unknown) => void): DiagLogger {
  const say = (message: string) => warn(`tracing: ${message}`);
  const silent = () => {};
  return { error: say, warn: say, info: silent, debug: silent, verbose: silent };
}
