/**
 * Where a raw request target points: the Kubernetes API or an in-cluster service. What goes on is the caller's own bytes,
 * less the prefix and the two query keys that are credentials; what could mean another path at the next hop is refused.
 */
import { failed } from "../failed.ts";
import type { Target } from "../link/messages.ts";

export type RequestTarget = {
  readonly target: Target;
  /** Raw path and query as they go on. */
  readonly path: string;
  /** From the query, decoded; null: absent. */
  readonly agentId: string | null;
  readonly csrf: string | null;
};

const KUBERNETES: Target = { type: "kubernetes" };
const SERVICE = /^\/services\/([A-Za-z0-9][A-Za-z0-9._-]{0,62})(?=[/?]|$)/;
/** Nothing of this may be in a target at all. */
const FORBIDDEN = /[^\x21-\x7e]|[\\#]/;
/** Worth a closer look at the path. */
const SUSPECT = /\.|%[0-7][0-9a-f]/i;
/** Encoded control characters, or a backslash. */
const ENCODED = /%(?:[01][0-9a-f]|7f|5c)/i;
/** Not an encoding of anything. */
const BROKEN = /%(?![0-9a-f]{2})/i;
const DOTS = /^(?:\.|%2e){1,2}(?:;|%3b|$)/i;

/** `/x/` for `x`, `/x`, `/x/`. */
export function normalPrefix(prefix: string): string {
  const inner = prefix.replace(/^\/+|\/+$/g, "");
  return inner ? `/${inner}/` : "/";
}

const refuse = (why: string): never => {
  throw failed("invalid", `bad request: ${why}`);
};

/** Throws `invalid`. `prefix` starts and ends with `/`. */
export function readTarget(url: string, prefix: string): RequestTarget {
  if (!url.startsWith("/"))
    refuse("the request target must be a path that starts with /, as HTTP clients send it to a server");
  if (FORBIDDEN.test(url))
    refuse("the URL contains a character that must be percent-encoded (space, control, \\, # or not ASCII)");
  if (!url.startsWith(prefix)) refuse(`the URL does not start with the expected prefix ${prefix}`);
  const rest = url.slice(prefix.length - 1);
  const mark = rest.indexOf("?");
  const path = mark < 0 ? rest : rest.slice(0, mark);
  checkPath(path);
  const query = readQuery(mark < 0 ? "" : rest.slice(mark));
  const [matched, name] = path.startsWith("/services/") ? (SERVICE.exec(path) ?? []) : [];
  if (matched === undefined || name === undefined) {
    if (path.startsWith("/services/")) refuse(`an in-cluster service is ${prefix}services/<name>/<path>`);
    return { ...query, target: KUBERNETES, path: path + query.path };
  }
  return { ...query, target: { type: "service", name }, path: (path.slice(matched.length) || "/") + query.path };
}

function checkPath(path: string): void {
  if (path.startsWith("//")) refuse("the path starts with // after the prefix: remove one /");
  if (BROKEN.test(path)) refuse("the path contains a % that is not followed by two hex digits: write it as %25");
  if (!SUSPECT.test(path)) return;
  if (ENCODED.test(path)) refuse("the path contains an encoded control character or backslash");
  for (const segment of path.split(/\/|%2f/i)) {
    if (DOTS.test(segment)) refuse('the path contains a "." or ".." segment: write it resolved');
  }
}

type Query = { readonly path: string; readonly agentId: string | null; readonly csrf: string | null };

/** `query` starts with `?` or is "". Keys are compared decoded, values that stay are not touched. */
function readQuery(query: string): Query {
  if (!/gitlab|%/i.test(query)) return { path: query, agentId: null, csrf: null };
  let agentId: string | null = null;
  let csrf: string | null = null;
  const kept: string[] = [];
  for (const pair of query.slice(1).split("&")) {
    const equals = pair.indexOf("=");
    const key = decode(equals < 0 ? pair : pair.slice(0, equals));
    const value = equals < 0 ? "" : pair.slice(equals + 1);
    if (key === "gitlab-agent-id") agentId = single(agentId, key, value);
    else if (key === "gitlab-csrf-token") csrf = single(csrf, key, value);
    else kept.push(pair);
  }
  return { path: kept.length > 0 ? `?${kept.join("&")}` : "", agentId, csrf };
}

function single(before: string | null, key: string, value: string): string {
  return before === null ? decode(value) : refuse(`the query has ${key} more than once`);
}

function decode(text: string): string {
  if (!text.includes("%") && !text.includes("+")) return text;
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch {
    return text;
  }
}
