/**
 * Dials kas: one HTTP/2 connection and on it one call, `AgentTunnel/Connect`, that carries the whole link. Every dial is a
 * connection of its own, so that behind a balancer the next one can land on another node.
 */

import { readFileSync } from "node:fs";
import { rootCertificates } from "node:tls";
import { type ChannelOptions, Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { type Failure, failure } from "../../actors/failure.ts";
import { failed } from "../failed.ts";
import { clientCallCarrier, GRPC_CLIENT_OPTIONS, identity } from "../link/carriers/grpc-call.ts";
import type { Carrier } from "../link/link.ts";

export type DialOptions = {
  readonly scheme: "grpc" | "grpcs" | "ws" | "wss";
  readonly host: string;
  readonly port: number;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly caCertFile: string | null;
  readonly tlsServerName: string | null;
  readonly insecureSkipTlsVerify: boolean;
  /** URL of the HTTP proxy to dial through. */
  readonly proxy: string | null;
};

export type Dialled = {
  readonly carrier: Carrier;
  /** Why kas, or the network, ended the call; null while it runs and when it ended well. */
  refusal(): Failure | null;
  /** Resolves when the call is over and what was written last has left. */
  readonly ended: Promise<void>;
};

/** Throws `Failed` when it cannot even try. */
export type Dial = () => Dialled;

const TLS_HINT = ". Where it is the certificate: check --kas-ca-cert-file and --kas-tls-server-name";
const METHOD = "/kas.agent.v1.AgentTunnel/Connect";

/** `token` is asked before every dial, so that it can be rotated. */
export function createDial(to: DialOptions, token: () => string, version: string): Dial {
  if (to.scheme === "ws" || to.scheme === "wss") {
    throw failed(
      "invalid",
      `--kas-address ${to.scheme}://…: this agentk dials grpc:// and grpcs:// only; use grpc${to.scheme === "wss" ? "s" : ""}://`,
    );
  }
  const { target, options } = route(to);
  const channel: ChannelOptions = {
    ...GRPC_CLIENT_OPTIONS,
    ...options,
    "grpc.primary_user_agent": `agentk/${version}`,
    "grpc.use_local_subchannel_pool": 1,
    "grpc.enable_retries": 0,
    "grpc.enable_channelz": 0,
    "grpc.service_config_disable_resolution": 1,
  };
  return () => {
    const metadata = new Metadata();
    for (const [name, value] of to.headers) metadata.add(name, value);
    metadata.set("authorization", `Bearer ${token()}`);
    const client = new Client(target, channelCredentials(to), channel);
    const call = client.makeBidiStreamRequest(METHOD, identity, identity, metadata);
    let refused: Failure | null = null;
    call.on("error", (error: ServiceError) => {
      refused = refusalOf(error, to);
    });
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    call.on("status", () => {
      client.close();
      resolve();
    });
    return { carrier: clientCallCarrier(call), refusal: () => refused, ended };
  };
}

function channelCredentials({ scheme, caCertFile, insecureSkipTlsVerify }: DialOptions) {
  if (scheme === "grpc") return credentials.createInsecure();
  return credentials.createSsl(rootsFrom(caCertFile), null, null, { rejectUnauthorized: !insecureSkipTlsVerify });
}

/** The file adds to the authorities that are trusted anyway. It is read on every dial: it may be rotated, too. */
function rootsFrom(path: string | null): Buffer | null {
  if (path === null) return null;
  try {
    return Buffer.concat([readFileSync(path), Buffer.from(`\n${rootCertificates.join("\n")}`)]);
  } catch (cause) {
    throw failed("invalid", `cannot read --kas-ca-cert-file ${path}: check that it exists and may be read`, cause);
  }
}

/** grpc-js reads proxies from lower-case variables only, so what configuration found is set here and its own search is off. */
function route({ host, port, proxy, tlsServerName }: DialOptions): { target: string; options: ChannelOptions } {
  const authority = `${host.includes(":") ? `[${host}]` : host}:${port}`;
  const named: ChannelOptions = {
    "grpc.enable_http_proxy": 0,
    ...(tlsServerName && { "grpc.ssl_target_name_override": tlsServerName }),
  };
  if (proxy === null) return { target: `dns:${authority}`, options: named };
  const url = URL.canParse(proxy) ? new URL(proxy) : null;
  if (url?.protocol !== "http:") {
    throw failed(
      "invalid",
      "the proxy of HTTPS_PROXY must be http://host:port: proxies that speak TLS are not supported",
    );
  }
  const user = decodeURIComponent(url.password ? `${url.username}:${url.password}` : url.username);
  return {
    target: `dns:${url.hostname}:${url.port || 80}`,
    options: {
      ...named,
      "grpc.default_authority": authority,
      "grpc.http_connect_target": `dns:${authority}`,
      ...(user && { "grpc.http_connect_creds": user }),
    },
  };
}

function refusalOf({ code, details }: ServiceError, { scheme, host, port }: DialOptions): Failure | null {
  const address = `${host}:${port}`;
  switch (code) {
    case status.OK:
    case status.CANCELLED:
      return null;
    case status.UNAUTHENTICATED:
      return failure(
        "unauthenticated",
        `kas at ${address} does not accept this agent's token (${details}): put a valid token into the token file; it is read again before every attempt`,
      );
    case status.PERMISSION_DENIED:
      return failure("forbidden", `kas at ${address} does not admit this agent: ${details}`);
    case status.UNIMPLEMENTED:
      return failure("protocol", `${address} is no kas that speaks kas.agent.v1 (${details}): check --kas-address`);
    case status.RESOURCE_EXHAUSTED:
      return failure("busy", `kas at ${address} takes no more agents now: ${details}`);
    default:
      return failure(
        "node-gone",
        `the connection to kas at ${address} failed: ${details}${scheme === "grpcs" ? TLS_HINT : ""}`,
      );
  }
}
