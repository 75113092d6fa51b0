/**
 * One pass over a request's raw headers: what goes on to the cluster, and what was meant for us. Credentials, identity that
 * only a trusted front may state, and hop-by-hop headers never go on. Names are compared in lower case, `_` counting as `-`.
 */
import { failed } from "../failed.ts";

export type RequestHeaders = {
  /** What goes on: names in lower case and values, in turn. */
  forward: string[];
  /** null: absent. An empty header is there. */
  authorization: string | null;
  cookie: string;
  agentId: string | null;
  csrf: string | null;
  origin: string;
  upgrade: string | null;
  /** Bytes of the body as announced; -1: chunked. */
  bodyBytes: number;
  /** Impersonate-* headers are among those that go on. */
  impersonates: boolean;
  /** Asks which methods a page of another origin may use. */
  preflight: boolean;
};

/** More than any client sends; each costs memory on every hop. */
const MAX_HEADERS = 256;

type Take = (headers: RequestHeaders, value: string, name: string) => void;

const drop: Take = () => {};

const once = (name: string): never => {
  throw failed("invalid", `the request has more than one ${name} header: send it once`);
};

const TAKE = new Map<string, Take>([
  ["authorization", (h, value, name) => setOnce(h, "authorization", value, name)],
  ["gitlab-agent-id", (h, value, name) => setOnce(h, "agentId", value, name)],
  ["x-csrf-token", (h, value, name) => setOnce(h, "csrf", value, name)],
  ["upgrade", (h, value, name) => setOnce(h, "upgrade", value, name)],
  ["cookie", addCookie],
  ["access-control-request-method", setPreflight],
  ["access-control-request-headers", drop],
  ["origin", setOrigin],
  ["sec-websocket-protocol", forwardProtocols],
  ...[
    "connection",
    "expect",
    "forwarded",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "traceparent",
    "tracestate",
    "baggage",
    "referer",
    "client-cert",
    "client-cert-chain",
    "x-client-cert",
    "x-real-ip",
    "front-end-https",
  ].map((name) => [name, drop] as const),
]);

/** What only a trusted front may say: the caller's address, certificate or name. */
const FORGEABLE =
  /^(?:x-remote-|x-forwarded-|x-ssl-|ssl-client-|x-client-|x-amzn-(?:mtls|oidc)-|x-goog-|x-envoy-|x-kas-)/;

/** Throws `invalid` for what no honest client sends. `via` names us to the cluster. */
export function readHeaders(raw: readonly string[], via: string): RequestHeaders {
  const h = blank();
  const seen: Framing = { host: 0, length: 0, coding: 0, impersonateUser: 0, via: "", connection: "" };
  if (raw.length > 2 * MAX_HEADERS) throw failed("invalid", `the request has more than ${MAX_HEADERS} headers`);
  for (let i = 0; i + 1 < raw.length; i += 2) takeOne(h, seen, (raw[i] ?? "").toLowerCase(), raw[i + 1] ?? "");
  if (seen.host === 0) throw failed("invalid", "the request has no Host header");
  if (seen.connection) dropListed(h, seen.connection);
  h.forward.push("via", seen.via ? `${seen.via}, ${via}` : via);
  return h;
}

type Framing = {
  host: number;
  length: number;
  coding: number;
  impersonateUser: number;
  via: string;
  connection: string;
};

const blank = (): RequestHeaders => ({
  forward: [],
  authorization: null,
  cookie: "",
  agentId: null,
  csrf: null,
  origin: "",
  upgrade: null,
  bodyBytes: 0,
  impersonates: false,
  preflight: false,
});

function takeOne(h: RequestHeaders, seen: Framing, name: string, value: string): void {
  if (takeFraming(h, seen, name, value)) return;
  const folded = name.includes("_") ? name.replaceAll("_", "-") : name;
  const take = TAKE.get(folded);
  if (take) {
    if (folded === name) take(h, value, name);
  } else if (folded.startsWith("impersonate-")) {
    forwardImpersonation(h, seen, folded, name, value);
  } else if (!FORGEABLE.test(folded)) {
    h.forward.push(name, value);
  }
}

/** The headers that say where a message ends and whose it is; twice is how requests are smuggled. */
function takeFraming(h: RequestHeaders, seen: Framing, name: string, value: string): boolean {
  switch (name) {
    case "host":
      if (++seen.host > 1) once(name);
      return true;
    case "content-length":
      if (++seen.length > 1) once(name);
      h.bodyBytes = Number(value);
      h.forward.push(name, value);
      return true;
    case "transfer-encoding":
      if (++seen.coding > 1) once(name);
      h.bodyBytes = -1;
      return true;
    case "via":
      seen.via = seen.via ? `${seen.via}, ${value}` : value;
      return true;
    case "connection":
      seen.connection += `,${value}`;
      return true;
    default:
      return false;
  }
}

/** An empty one counts: a second is still a second. */
function setOnce(
  h: RequestHeaders,
  key: "authorization" | "agentId" | "csrf" | "upgrade",
  value: string,
  name: string,
) {
  if (h[key] !== null) once(name);
  h[key] = value;
}

function addCookie(h: RequestHeaders, value: string): void {
  h.cookie = h.cookie ? `${h.cookie}; ${value}` : value;
}

function setPreflight(h: RequestHeaders): void {
  h.preflight = true;
}

function setOrigin(h: RequestHeaders, value: string, name: string): void {
  if (h.origin) once(name);
  h.origin = value;
  h.forward.push(name, value);
}

function forwardImpersonation(h: RequestHeaders, seen: Framing, folded: string, name: string, value: string): void {
  if (folded !== name) throw failed("invalid", `the header ${name} is not valid: write it with "-" instead of "_"`);
  if (name === "impersonate-user" && ++seen.impersonateUser > 1) once(name);
  h.impersonates = true;
  h.forward.push(name, value);
}

/** Browsers cannot set headers on a WebSocket and put tokens here; those are ours or nobody's. */
function forwardProtocols(h: RequestHeaders, value: string, name: string): void {
  if (!/websocket-token\.|bearer\.authorization\./i.test(value)) {
    h.forward.push(name, value);
    return;
  }
  const kept = value.split(",").filter((one) => !/websocket-token\.|bearer\.authorization\./i.test(one));
  if (kept.length > 0) h.forward.push(name, kept.join(",").trim());
}

const ORDINARY = /^[\s,]*(?:(?:keep-alive|close|upgrade|te|http2-settings|proxy-connection)[\s,]*)*$/i;

/** Headers named in Connection go no further, whatever they are; who is impersonated does not travel as a header. */
function dropListed(h: RequestHeaders, connection: string): void {
  if (ORDINARY.test(connection)) return;
  const listed = new Set(connection.split(",").map((one) => one.trim().toLowerCase()));
  const kept: string[] = [];
  for (let i = 0; i + 1 < h.forward.length; i += 2) {
    const name = h.forward[i] ?? "";
    if (!listed.has(name)) kept.push(name, h.forward[i + 1] ?? "");
  }
  h.forward = kept;
}
