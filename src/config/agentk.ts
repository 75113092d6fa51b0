/**
 * What agentk is told by its flags and environment (GitLab's names). `parseAgentkConfig` checks everything and throws one
 * `invalid` failure that names every fault; what it returns needs no further check.
 */
import type { Millis } from "../../actors/actor.ts";
import { failed } from "../failed.ts";
import { ADDRESS_EXPECTED, type Address, parseAddress } from "./address.ts";
import { DURATION_EXPECTED, parseDuration } from "./duration.ts";
import { proxyFor } from "./proxy.ts";

export type Env = Readonly<Record<string, string | undefined>>;

export type AgentkConfig = {
  readonly kas: {
    readonly scheme: "grpc" | "grpcs" | "ws" | "wss";
    readonly host: string;
    readonly port: number;
    /** Path of the WebSocket, "/" where none is given; gRPC ignores it. */
    readonly path: string;
    readonly headers: readonly (readonly [name: string, value: string])[];
    readonly caCertFile: string | null;
    readonly tlsServerName: string | null;
    readonly insecureSkipTlsVerify: boolean;
    /** URL of the HTTP proxy to dial through (`HTTPS_PROXY`, `NO_PROXY` considered). */
    readonly proxy: string | null;
  };
  /** A file is read again on every dial, so that a token can be rotated. */
  readonly token: { readonly type: "file"; readonly path: string } | { readonly type: "value"; readonly value: string };
  /** null: the service account of the pod. */
  readonly kubeconfig: string | null;
  readonly context: string | null;
  /** In-cluster services that callers may reach; the URL ends without a slash. */
  readonly services: ReadonlyMap<string, string>;
  readonly observability: {
    readonly listen: Address;
    readonly certificateFile: string | null;
    readonly keyFile: string | null;
  };
  /** `<namespace>/<name>` of the pod; null where unknown (then agentk makes a random one). */
  readonly instance: string | null;
  readonly logLevel: LogLevel;
  readonly timings: {
    readonly backoffInitial: Millis;
    readonly backoffMax: Millis;
    /** How long streams may finish after the first signal. */
    readonly drainTimeout: Millis;
  };
  /** Streams served at once, on all links together. */
  readonly maxStreams: number;
};

/** What `startAgentk` of `src/agentk/start.ts` takes. */
export type AgentkOptions = {
  readonly config: AgentkConfig;
  readonly env: Env;
  /** Contract lines only. */
  readonly stdout: (line: string) => void;
};

/** What `startAgentk` resolves to. */
export interface RunningAgentk {
  /** Takes nothing new, serves what runs (at most `timings.drainTimeout`), then ends; resolves when it has ended. */
  drain(): Promise<void>;
  /** Ends now. */
  stop(): Promise<void>;
}

export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Flags as the command line gives them, not yet checked. */
export type AgentkFlags = {
  readonly kasAddress?: string;
  readonly tokenFile?: string;
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly service?: readonly string[];
  readonly kasCaCertFile?: string;
  readonly kasHeader?: readonly string[];
  readonly kasTlsServerName?: string;
  readonly kasInsecureSkipTlsVerify?: boolean;
  readonly observabilityListenAddress?: string;
  readonly observabilityListenCertFile?: string;
  readonly observabilityListenKeyFile?: string;
  readonly logLevel?: string;
};

const SCHEMES = { "grpc:": "grpc", "grpcs:": "grpcs", "ws:": "ws", "wss:": "wss" } as const;
const isScheme = (protocol: string): protocol is keyof typeof SCHEMES => Object.hasOwn(SCHEMES, protocol);
const SERVICE_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const HEADER_NAME = /^[a-z0-9!#$%&'*+.^_`|~-]+$/;
/** Headers that agentk or the carrier writes itself. */
const RESERVED_HEADERS = new Set([
  "authorization",
  "host",
  "connection",
  "upgrade",
  "content-type",
  "te",
  "user-agent",
]);

type Fault = (text: string) => null;

export function parseAgentkConfig(flags: AgentkFlags, env: Env): AgentkConfig {
  const faults: string[] = [];
  const fault: Fault = (text) => {
    faults.push(text);
    return null;
  };
  const kas = parseKas(flags, env, fault);
  const token = parseToken(flags, env, fault);
  const services = parseServices(flags.service ?? [], fault);
  const observability = parseObservability(flags, fault);
  const kubeconfig = parseKubeconfig(flags, env, fault);
  const logLevel = parseLogLevel(flags.logLevel ?? "info", fault);
  const timings = {
    backoffInitial: timing("AGENTK_BACKOFF_INITIAL", "500ms", env, fault),
    backoffMax: timing("AGENTK_BACKOFF_MAX", "15s", env, fault),
    drainTimeout: timing("AGENTK_DRAIN_TIMEOUT", "1h", env, fault),
  };
  const maxStreams = countOf("AGENTK_MAX_STREAMS", 1_000, env, fault);
  if (!kas || !token || !observability || !logLevel || faults.length > 0) {
    throw failed("invalid", `agentk cannot start with these flags:\n${faults.map((text) => `  ${text}`).join("\n")}`);
  }
  const instance = env.POD_NAME ? `${env.POD_NAMESPACE ?? "default"}/${env.POD_NAME}` : null;
  const context = flags.context ?? null;
  return { kas, token, kubeconfig, context, services, observability, instance, logLevel, timings, maxStreams };
}

function parseKas(flags: AgentkFlags, env: Env, fault: Fault): AgentkConfig["kas"] | null {
  const headers = (flags.kasHeader ?? []).flatMap((text) => parseHeader(text, fault) ?? []);
  if (!flags.kasAddress)
    return fault("--kas-address is missing: give the address of kas, such as grpcs://kas.example.com");
  const url = URL.canParse(flags.kasAddress) ? new URL(flags.kasAddress) : null;
  if (!url || !isScheme(url.protocol) || !url.hostname || url.username || url.search) {
    return fault(
      `--kas-address ${quote(flags.kasAddress)}: expected grpc://, grpcs://, ws:// or wss:// with a host and perhaps a port`,
    );
  }
  const scheme = SCHEMES[url.protocol];
  const secure = scheme === "grpcs" || scheme === "wss";
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const port = url.port ? Number(url.port) : secure ? 443 : 80;
  return {
    scheme,
    host,
    port,
    path: url.pathname || "/",
    headers,
    caCertFile: flags.kasCaCertFile ?? null,
    tlsServerName: flags.kasTlsServerName ?? null,
    insecureSkipTlsVerify: flags.kasInsecureSkipTlsVerify ?? false,
    proxy: proxyFor(host, port, env),
  };
}

/** The value is never repeated in a fault: it may be a credential. */
function parseHeader(text: string, fault: Fault): readonly [readonly [string, string]] | null {
  const colon = text.indexOf(":");
  const name = text.slice(0, Math.max(0, colon)).trim().toLowerCase();
  const value = text.slice(colon + 1).trim();
  if (!HEADER_NAME.test(name) || !/^[\x20-\x7e\t]*$/.test(value))
    return fault("--kas-header: expected 'Name: value' in ASCII");
  if (RESERVED_HEADERS.has(name)) return fault(`--kas-header ${name}: agentk sets this header itself; leave it out`);
  return [[name, value]];
}

function parseToken(flags: AgentkFlags, env: Env, fault: Fault): AgentkConfig["token"] | null {
  const { tokenFile } = flags;
  const value = env.AGENTK_TOKEN?.trim();
  if (tokenFile && value) return fault("--token-file and AGENTK_TOKEN are both given: keep one of them");
  if (tokenFile) return { type: "file", path: tokenFile };
  if (value) return { type: "value", value };
  return fault("no agent token: give --token-file FILE or the environment variable AGENTK_TOKEN");
}

function parseServices(texts: readonly string[], fault: Fault): ReadonlyMap<string, string> {
  const services = new Map<string, string>();
  for (const text of texts) {
    const equals = text.indexOf("=");
    const name = text.slice(0, Math.max(0, equals));
    const address = text.slice(equals + 1);
    const url = URL.canParse(address) ? new URL(address) : null;
    const usable =
      url && (url.protocol === "http:" || url.protocol === "https:") && !url.username && !url.search && !url.hash;
    if (!SERVICE_NAME.test(name) || !usable) {
      fault(
        `--service ${quote(text)}: expected name=http://host:port, the name of [a-z0-9-] and the URL without user or query`,
      );
    } else if (services.has(name)) {
      fault(`--service ${name} is given twice: each name once`);
    } else {
      services.set(name, url.href.replace(/\/$/, ""));
    }
  }
  return services;
}

function parseObservability(flags: AgentkFlags, fault: Fault): AgentkConfig["observability"] | null {
  const text = flags.observabilityListenAddress ?? "127.0.0.1:0";
  const listen = parseAddress(text);
  if (!listen) return fault(`--observability-listen-address ${quote(text)}: expected ${ADDRESS_EXPECTED}`);
  const certificateFile = flags.observabilityListenCertFile ?? null;
  const keyFile = flags.observabilityListenKeyFile ?? null;
  if ((certificateFile === null) !== (keyFile === null)) {
    return fault(
      "--observability-listen-cert-file and --observability-listen-key-file belong together: give both or none",
    );
  }
  return { listen, certificateFile, keyFile };
}

function parseKubeconfig(flags: AgentkFlags, env: Env, fault: Fault): string | null {
  const path = flags.kubeconfig ?? env.KUBECONFIG;
  if (flags.kubeconfig === undefined && path?.includes(":")) {
    return fault("KUBECONFIG names several files: agentk reads one; give it with --kubeconfig");
  }
  if (!path && flags.context) return fault("--context needs a kubeconfig: give --kubeconfig FILE");
  return path || null;
}

function parseLogLevel(text: string, fault: Fault): LogLevel | null {
  return (
    LOG_LEVELS.find((level) => level === text) ?? fault(`--log-level ${quote(text)}: expected ${LOG_LEVELS.join(", ")}`)
  );
}

function timing(name: string, otherwise: string, env: Env, fault: Fault): Millis {
  const millis = parseDuration(env[name] ?? otherwise);
  if (millis === null) fault(`environment variable ${name}: expected ${DURATION_EXPECTED}`);
  return millis ?? 0;
}

function countOf(name: string, otherwise: number, env: Env, fault: Fault): number {
  const written = env[name] ?? String(otherwise);
  if (!/^[1-9]\d{0,6}$/.test(written)) fault(`environment variable ${name}: expected a number such as ${otherwise}`);
  return Number(written);
}

/** Text of the operator in a message: printable and short. */
const quote = (text: string): string => JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
