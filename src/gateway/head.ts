/**
 * What Rails asked for as a request to the router. Identity comes from `impersonate` and `actor` alone: headers that
 * would say something about it are refused, hop-by-hop headers dropped.
 */
import { isAgentId } from "../../actors/ids.ts";
import type { RouteRequest } from "../cluster/router.ts";
import { failed } from "../failed.ts";
import type { Header, HttpRequest, Impersonation, RequestHead, Target } from "../gen/kas/gateway/v1/gateway_pb.ts";
import type * as link from "../link/messages.ts";
import type { GuardedCall } from "./guard.ts";

const ACCEPT_WITHIN = 20_000;
const MAX_ACTOR_BYTES = 1024;

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** Printable ASCII without space and fragment; anything else is the target's to judge. */
const PATH = /^\/[!"$-~]*$/;
const HOP_BY_HOP = new Set([
  "connection",
  "content-length",
  "host",
  "http2-settings",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);
const IDEMPOTENT = new Set(["GET", "HEAD", "OPTIONS"]);
const WITH_BODY = new Set(["POST", "PUT", "PATCH"]);
const WATCHES = /[?&](watch|follow)=(true|1)(&|$)/;

const invalid = (reason: string) => failed("invalid", reason);

function targetOf(target: Target | undefined): link.Target {
  if (target?.kind.case !== "service") return { type: "kubernetes" };
  if (!target.kind.value) throw invalid("target.service is empty: name a service that the agent offers");
  return { type: "service", name: target.kind.value };
}

function impersonationOf(as: Impersonation | undefined): link.Impersonation | null {
  if (!as) return null;
  if (!as.user) throw invalid("impersonate.user is empty: groups, uid and extra mean nothing without a user");
  return { user: as.user, groups: as.groups, uid: as.uid, extra: as.extra.map(({ key, values }) => [key, values]) };
}

function refuseIdentity(name: string): void {
  if (name.startsWith("impersonate-")) throw invalid(`header ${name} is not taken: use the field impersonate`);
  if (name === "authorization") {
    throw invalid("header authorization is not taken: the agent has its own credentials, say as whom in impersonate");
  }
}

const hasControls = (value: string): boolean => /[\0\r\n]/.test(value);

type Headers = {
  readonly flat: string[];
  /** Value of `upgrade`, "" without it. */
  readonly upgrade: string;
  readonly contentLength: string;
};

function headersOf(headers: readonly Header[]): Headers {
  const flat: string[] = [];
  let upgrade = "";
  let contentLength = "";
  for (const { name: written, value } of headers) {
    const name = written.toLowerCase();
    if (!TOKEN.test(name)) throw invalid(`${JSON.stringify(written)} is not a header name`);
    if (hasControls(value)) throw invalid(`the value of header ${name} has a line break or NUL in it`);
    refuseIdentity(name);
    if (name === "upgrade") upgrade = value;
    else if (name === "content-length") contentLength = value;
    else if (!HOP_BY_HOP.has(name)) flat.push(name, value);
  }
  return { flat, upgrade, contentLength };
}

type Asked = Pick<HttpRequest | RequestHead, "method" | "path" | "actor">;

function check({ method, path, actor }: Asked): void {
  if (!TOKEN.test(method)) throw invalid(`method ${JSON.stringify(method)} is not an HTTP method`);
  if (!PATH.test(path)) throw invalid('path must begin with "/" and be percent-encoded, without a fragment');
  if (Buffer.byteLength(actor) > MAX_ACTOR_BYTES) throw invalid(`actor is longer than ${MAX_ACTOR_BYTES} bytes`);
}

/** How long the caller gives it; 0 in all where it names no deadline. */
export function patience(call: GuardedCall): Pick<RouteRequest, "acceptWithin" | "timeLeft"> {
  const left = call.timeLeft();
  if (left === Number.POSITIVE_INFINITY) return { acceptWithin: ACCEPT_WITHIN, timeLeft: 0 };
  if (left <= 0) throw failed("deadline", "the deadline had passed before the request was looked at");
  return { acceptWithin: Math.min(ACCEPT_WITHIN, left), timeLeft: left };
}

function routed(call: GuardedCall, asked: HttpRequest | RequestHead, headers: Headers, upgrade: boolean) {
  const agentId = Number(asked.agentId);
  if (!isAgentId(agentId)) throw invalid(`agent_id is ${asked.agentId}: it must be a positive number below 2^53`);
  call.names(agentId);
  return {
    agentId,
    kind: "http",
    target: targetOf(asked.target),
    ...patience(call),
    idempotent: IDEMPOTENT.has(asked.method) && !upgrade,
    upgrade,
    caller: { kind: "rails", id: asked.actor, as: impersonationOf(asked.impersonate) },
    method: asked.method,
    path: asked.path,
    headers: headers.flat,
    trace: call.trace,
  } as const;
}

/** Throws `invalid`. */
export function unaryRequest(call: GuardedCall, asked: HttpRequest): RouteRequest {
  check(asked);
  const headers = headersOf(asked.headers);
  if (headers.upgrade) throw invalid("an upgrade needs the method Stream");
  if (asked.body.length > 0 || WITH_BODY.has(asked.method)) headers.flat.push("content-length", `${asked.body.length}`);
  return { ...routed(call, asked, headers, false), class: "unary" };
}

/** Throws `invalid`. */
export function streamRequest(call: GuardedCall, asked: RequestHead): RouteRequest {
  check(asked);
  const headers = headersOf(asked.headers);
  const upgrade = headers.upgrade !== "";
  if (headers.contentLength) headers.flat.push("content-length", headers.contentLength);
  if (upgrade) headers.flat.push("upgrade", headers.upgrade);
  const streamClass = upgrade ? "interactive" : WATCHES.test(asked.path) ? "watch" : "bulk";
  return { ...routed(call, asked, headers, upgrade), class: streamClass };
}
