/**
 * Headers of a cluster's answer as the caller may see them. The cluster's owner may be hostile: what steers a browser, a front
 * proxy or our own clients (cookies, CORS, redirects, our error marks) stays here, and so does all that is hop-by-hop.
 */
import { failed } from "../failed.ts";
import type { FlatHeaders, Head } from "../link/messages.ts";

const DROPPED = new Set([
  "connection",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "proxy-authenticate",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "server",
  "x-powered-by",
  "set-cookie",
  "set-cookie2",
  "clear-site-data",
  "service-worker-allowed",
  "refresh",
  "link",
  "alt-svc",
  "strict-transport-security",
  "public-key-pins",
  "x-sendfile",
  "x-content-type-options",
  "failure-code",
  "gitlab-unauthorized",
]);
const LOCATIONS = new Set(["location", "content-location"]);
const DROPPED_FAMILIES = /^(?:access-control-|x-accel-|x-kas-|x-lighttpd-)/;
/** Browsers act on these; an answer that a browser's cookie paid for must not. */
const BROWSER = new Set(["www-authenticate", "content-security-policy"]);

export type AnswerPolicy = {
  /** Where this target's paths begin for the caller, without a final slash; redirects are moved there. */
  readonly base: string;
  readonly browser: boolean;
  readonly via: string;
  /** Ours, on every answer: trace id, CORS. */
  readonly extra: FlatHeaders;
};

export type AnswerHeaders = { readonly flat: string[] /** -1: not announced. */; readonly contentLength: number };

/** Throws `protocol` for a head that cannot be passed on safely. */
export function answerHeaders({ status, headers }: Head, policy: AnswerPolicy): AnswerHeaders {
  const flat: string[] = [];
  const listed = listedInConnection(headers);
  let contentLength = -1;
  let via = policy.via;
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = (headers[i] ?? "").toLowerCase();
    const value = headers[i + 1] ?? "";
    if (name === "content-length") contentLength = lengthOf(value, contentLength);
    else if (name === "via") via = `${value}, ${via}`;
    else if (LOCATIONS.has(name)) pushLocation(flat, name, value, policy.base);
    else if (!isDropped(name, policy.browser) && !listed?.has(name)) flat.push(name, value);
  }
  if (contentLength >= 0 && status !== 204) flat.push("content-length", String(contentLength));
  pushOurs(flat, via, policy);
  return { flat, contentLength };
}

function pushOurs(flat: string[], via: string, { browser, extra }: AnswerPolicy): void {
  flat.push("via", via, "x-content-type-options", "nosniff");
  if (browser) flat.push("content-security-policy", "sandbox; default-src 'none'");
  for (const text of extra) flat.push(text);
}

/** Trailers: fields that frame, route or authenticate have no place there. */
export function answerTrailers(headers: FlatHeaders): [string, string][] {
  const kept: [string, string][] = [];
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = (headers[i] ?? "").toLowerCase();
    if (name === "content-length" || name === "location" || name === "via" || isDropped(name, true)) continue;
    kept.push([name, headers[i + 1] ?? ""]);
  }
  return kept;
}

const isDropped = (name: string, browser: boolean): boolean =>
  DROPPED.has(name) || (browser && BROWSER.has(name)) || DROPPED_FAMILIES.test(name);

function lengthOf(value: string, before: number): number {
  const length = /^\d{1,15}$/.test(value) ? Number(value) : -1;
  if (length < 0 || (before >= 0 && before !== length)) {
    throw failed("protocol", "the cluster's answer has a content-length that is not one number");
  }
  return length;
}

function listedInConnection(headers: FlatHeaders): Set<string> | null {
  for (let i = 0; i + 1 < headers.length; i += 2) {
    if ((headers[i] ?? "").toLowerCase() !== "connection") continue;
    return new Set((headers[i + 1] ?? "").split(",").map((one) => one.trim().toLowerCase()));
  }
  return null;
}

/** A redirect stays under this target's own prefix; one that names another server is dropped. */
function pushLocation(flat: string[], name: string, value: string, base: string): void {
  if (/^\/(?![/\\])/.test(value)) flat.push(name, base + value);
  else if (/^[\w.~%-][^:\\]*$/.test(value)) flat.push(name, value);
}
