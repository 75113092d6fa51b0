/**
 * What the agent may reach: the Kubernetes API server and the services named by `--service`, nothing else. The host is
 * always the operator's; a request chooses among these by name and brings a path, never an address.
 */
import { type Dispatcher, Pool } from "undici";
import { type Failure, failure } from "../../actors/failure.ts";
import { type Impersonation, MAX_MESSAGE_BYTES, type Target } from "../link/messages.ts";
import type { ApiServer, ClientTls } from "./kubernetes.ts";
import { CONNECT_WITHIN } from "./limits.ts";

export type Upstream = {
  readonly type: "kubernetes" | "service";
  /** For people: `the Kubernetes API server at 10.0.0.1:443`. */
  readonly title: string;
  /** What to look at when it cannot be reached. */
  readonly advice: string;
  /** Put before every path; "" or `/prefix`. */
  readonly basePath: string;
  readonly address: string;
  /** Ordinary requests, on connections that are kept. */
  readonly pool: Dispatcher;
  /** Upgrades: a connection of its own for each. */
  readonly upgrades: Dispatcher;
  /** Value of the Authorization header, "" for none. */
  authorization(): string;
  /** It answered 401: look for a newer credential. */
  unauthorized(): void;
  readonly impersonates: Impersonation | null;
};

export interface Upstreams extends AsyncDisposable {
  find(target: Target): Upstream | Failure;
}

/** Where the token comes from that is presented to the API server. */
export interface Credential {
  readonly value: string;
  renew(): void;
}

/** Go's servers drop an idle connection after 90 s or more; a service says itself how long it keeps one, or gets undici's 4 s. */
const API_SERVER_IDLE = 60_000;

function pools(url: URL, tls: ClientTls, idle: number | undefined) {
  const shared = { headersTimeout: 0, bodyTimeout: 0, maxHeaderSize: MAX_MESSAGE_BYTES, allowH2: false };
  const connect = { ...tls, timeout: CONNECT_WITHIN, allowH2: false };
  return {
    pool: new Pool(url.origin, { ...shared, connect, pipelining: 1, ...(idle && { keepAliveTimeout: idle }) }),
    upgrades: new Pool(url.origin, { ...shared, connect: { ...connect, allowHalfOpen: true }, pipelining: 0 }),
  };
}

const basePathOf = (url: URL): string => url.pathname.replace(/\/+$/, "");

export function apiServerUpstream({ url, tls, impersonates }: ApiServer, credential: Credential): Upstream {
  return {
    type: "kubernetes",
    title: `the Kubernetes API server at ${url.host}`,
    advice: "check that the agent's pod can reach it (network policy, kubeconfig)",
    basePath: basePathOf(url),
    address: url.host,
    ...pools(url, tls, API_SERVER_IDLE),
    authorization: () => credential.value,
    unauthorized: () => credential.renew(),
    impersonates,
  };
}

export function serviceUpstream(name: string, address: string): Upstream {
  const url = new URL(address);
  return {
    type: "service",
    title: `the service "${name}" at ${url.host}`,
    advice: `check --service ${name}=… of the agent and that the service has ready pods`,
    basePath: basePathOf(url),
    address: url.host,
    ...pools(url, {}, undefined),
    authorization: () => "",
    unauthorized: () => {},
    impersonates: null,
  };
}

export function createUpstreams(kubernetes: Upstream, services: ReadonlyMap<string, string>): Upstreams {
  const byName = new Map([...services].map(([name, address]) => [name, serviceUpstream(name, address)] as const));
  return {
    find(target) {
      if (target.type === "kubernetes") return kubernetes;
      const found = target.type === "service" ? byName.get(target.name) : undefined;
      return found ?? notAllowed(target, [...byName.keys()]);
    },
    async [Symbol.asyncDispose]() {
      const all = [kubernetes, ...byName.values()];
      await Promise.all(all.flatMap(({ pool, upgrades }) => [pool.destroy(), upgrades.destroy()]));
    },
  };
}

function notAllowed(target: Target, allowed: readonly string[]): Failure {
  const name = target.type === "service" ? target.name : target.type;
  const known = allowed.length > 0 ? `it allows ${allowed.join(", ")}` : "it allows none";
  return failure(
    "forbidden",
    `this agent does not allow the service "${name}": ${known}; start agentk with --service ${name}=http://host:port to allow it`,
  );
}
