/**
 * What will be sent to an upstream for one stream. The caller chooses method, path and headers within bounds; host,
 * credential and identity are the agent's to write, after everything of the caller was sifted.
 */
import { type Failure, failure } from "../../actors/failure.ts";
import type { FlatHeaders, Open } from "../link/messages.ts";
import { headerOf, requestHeaders, without } from "./headers.ts";
import { impersonate } from "./impersonation.ts";
import type { Upstream } from "./upstream.ts";

/** An HTTP request as it will be sent. */
export type UpstreamRequest = {
  readonly method: string;
  readonly path: string;
  readonly headers: string[];
  /** Protocol asked for; "" for an ordinary request. */
  readonly upgrade: string;
  /** What the caller declared; null when it did not. */
  readonly contentLength: string | null;
};

const invalid = (reason: string): Failure => failure("invalid", reason);

/** A failure is a refusal: nothing was sent. */
export function requestFor(open: Open, upstream: Upstream): UpstreamRequest | Failure {
  const fault = faultOf(open, upstream);
  if (fault) return fault;
  const headers = requestHeaders(open.headers);
  const identity = identityHeaders(open, upstream);
  if ("code" in identity) return identity;
  const upgrade = open.upgrade ? headerOf(open.headers, "upgrade") : "";
  if (open.upgrade && upgrade === "") return invalid("an upgrade needs an Upgrade header: name the protocol");
  const contentLength = headerOf(open.headers, "content-length") || null;
  return {
    method: open.method,
    path: upstream.basePath + open.path,
    headers: [...(upgrade ? without(headers, "content-length") : headers), ...identity],
    upgrade,
    contentLength,
  };
}

/** Added after everything the caller sent was sifted, so that no header of the caller can displace them. */
function identityHeaders(open: Open, upstream: Upstream): FlatHeaders | Failure {
  if (upstream.type !== "kubernetes") return [];
  const as = impersonate(open.caller.as, upstream.impersonates, open.headers);
  if ("code" in as) return as;
  const authorization = upstream.authorization();
  return authorization ? ["authorization", authorization, ...as] : as;
}

/** The path is passed on byte for byte: visible ASCII and bytes above it, from the root. */
const PATH = /^\/[\x21-\x7e\x80-\xff]*$/;
const DOTS = /(^|\/|\\)(\.|%2e){1,2}(\/|\\|$)/i;

function faultOf({ method, path }: Open, { basePath, title }: Upstream): Failure | null {
  if (method === "CONNECT") return invalid("CONNECT is not carried: use an upgrade");
  if (!PATH.test(path)) return invalid("the path must start with / and hold no spaces or control characters");
  if (basePath && DOTS.test(path.split("?", 1)[0] ?? "")) {
    return failure("forbidden", `a path with . or .. segments could leave ${basePath}/ of ${title}: write it without`);
  }
  return null;
}
