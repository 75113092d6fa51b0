/**
 * Decides from a request's raw head whether it may go on, and as what. Two steps, because who the caller is may take a
 * look-up: `readRequest` is all that can be told from the bytes, `admit` adds the grant.
 */
import type { Millis } from "../../actors/actor.ts";
import type { ProxyAccess, ProxyCredential } from "../auth/auth.ts";
import type { RouteRequest } from "../cluster/router.ts";
import { failed } from "../failed.ts";
import type { FlatHeaders, StreamClass } from "../link/messages.ts";
import { readCredential } from "./credential.ts";
import { isInteractive, isWatch } from "./kubernetes-verb.ts";
import { type RequestHeaders, readHeaders } from "./request-headers.ts";
import { type RequestTarget, readTarget } from "./target.ts";
import type { RequestTrace } from "./trace.ts";

export type AdmissionOptions = {
  /** Starts and ends with `/`. */
  readonly prefix: string;
  /** Exact origins whose pages may use a browser's session, such as `https://gitlab.example.com`. */
  readonly allowedOrigins: readonly string[];
  /** Our entry in Via. */
  readonly via: string;
  readonly acceptWithin: Millis;
};

export type ReadRequest = {
  readonly method: string;
  readonly headers: RequestHeaders;
  readonly target: RequestTarget;
  readonly upgrade: boolean;
};

export type RawRequest = {
  readonly method?: string | undefined;
  readonly url?: string | undefined;
  readonly rawHeaders: readonly string[];
};

const BULK_BYTES = 1024 * 1024;
const SAFE = new Set(["GET", "HEAD", "OPTIONS"]);

/** Throws `invalid`. */
export function readRequest(raw: RawRequest, upgrade: boolean, { prefix, via }: AdmissionOptions): ReadRequest {
  const method = raw.method ?? "";
  const target = readTarget(raw.url ?? "", prefix);
  const headers = readHeaders(raw.rawHeaders, via);
  if (method === "TRACE") throw failed("invalid", "bad request: TRACE is not forwarded, its answer would show headers");
  const hasBody = headers.bodyBytes !== 0;
  if (upgrade && hasBody) throw failed("invalid", "bad request: a request that upgrades its connection has no body");
  if (hasBody && (method === "GET" || method === "HEAD") && target.target.type === "kubernetes") {
    throw failed("invalid", `bad request: ${method} to the Kubernetes API has no body`);
  }
  return { method, headers, target, upgrade };
}

export const credentialOf = ({ headers, target }: ReadRequest): ProxyCredential => readCredential(headers, target);

/** Throws `forbidden`. Only from here on is a browser's page believed to be GitLab's. */
export function checkOrigin({ headers }: ReadRequest, credential: ProxyCredential, allowed: readonly string[]): void {
  if (credential.kind !== "cookie" || headers.origin === "" || allowed.includes(headers.origin)) return;
  throw failed("forbidden", "forbidden: pages of this origin may not use the session: only GitLab's own may");
}

/** Throws `forbidden`. */
export function admit(
  { method, headers, target, upgrade }: ReadRequest,
  { agentId }: ProxyCredential,
  { caller, services }: ProxyAccess,
  trace: RequestTrace,
  acceptWithin: Millis,
): RouteRequest {
  if (target.target.type === "service") checkService(target.target.name, agentId, services);
  if (headers.impersonates && (caller.as !== null || target.target.type === "service")) {
    throw failed(
      "forbidden",
      "forbidden: Impersonate-* headers are not allowed here: kas says whom the request impersonates. Remove --as and --as-group",
    );
  }
  return {
    agentId,
    kind: "http",
    target: target.target,
    acceptWithin,
    timeLeft: 0,
    idempotent: SAFE.has(method) && !upgrade,
    upgrade,
    class: classOf(target.path, upgrade, headers.bodyBytes),
    caller,
    method,
    path: target.path,
    headers: upgrade ? upgradeHeaders(headers) : headers.forward,
    trace: trace.context,
  };
}

function checkService(name: string, agentId: number, services: readonly string[]): void {
  if (services.includes(name)) return;
  throw failed(
    "forbidden",
    `forbidden: these credentials may not use the service "${name}" of agent ${agentId}: add ${name} to "services" of their grant for this agent, and start agentk with --service ${name}=<url>`,
  );
}

function upgradeHeaders({ forward, upgrade }: RequestHeaders): FlatHeaders {
  forward.push("connection", "Upgrade", "upgrade", upgrade ?? "");
  return forward;
}

function classOf(path: string, upgrade: boolean, bodyBytes: number): StreamClass {
  if (upgrade || isInteractive(path)) return "interactive";
  if (isWatch(path)) return "watch";
  return bodyBytes > BULK_BYTES ? "bulk" : "unary";
}
