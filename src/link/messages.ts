/**
 * Payloads of OPEN, HEAD and TRAILER: positional msgpack arrays. Fields are only ever appended; a decoder fills what an
 * older sender did not send with the field's neutral value and ignores what it does not know.
 */
import { Packr } from "msgpackr";
import type { Millis } from "../../actors/actor.ts";
import type { AgentId, ConnectionId, RequestId } from "../../actors/ids.ts";
import { failed } from "../failed.ts";

/** OPEN, HEAD and TRAILER must fit in this; larger is `too-large` (HTTP 431). */
export const MAX_MESSAGE_BYTES = 64 * 1024;

/** Names and values in turn, as they came: [name, value, name, value …]. Names lower case. */
export type FlatHeaders = readonly string[];

export type StreamKind = "http" | "grpc";
export type StreamClass = "unary" | "watch" | "interactive" | "bulk";

/** Where the agent sends it. `grpc`: a method the agent itself serves. */
export type Target =
  | { readonly type: "kubernetes" }
  | { readonly type: "service"; readonly name: string }
  | { readonly type: "grpc" };

/** As whom the API server shall see the request; the agent turns it into Impersonate-* headers. */
export type Impersonation = {
  readonly user: string;
  readonly groups: readonly string[];
  readonly uid: string;
  readonly extra: readonly (readonly [key: string, values: readonly string[]])[];
};

/** Who asked. Written by the ingress from checked credentials, never from a header. */
export type Caller = {
  readonly kind: "rails" | "pat" | "ci" | "cookie" | "kas";
  /** User name, job, or Rails' `actor`; for the audit record. */
  readonly id: string;
  readonly as: Impersonation | null;
};

export type Open = {
  readonly requestId: RequestId;
  readonly agentId: AgentId;
  /** The connection the ingress found, 0 for any. A hint: the holder is the authority. */
  readonly prefer: ConnectionId | 0;
  readonly exclude: readonly ConnectionId[];
  readonly kind: StreamKind;
  readonly target: Target;
  /** Time left until the agent must have accepted. */
  readonly acceptWithin: Millis;
  /** Time left until the answer must have ended; 0: none. */
  readonly timeLeft: Millis;
  readonly traceparent: string;
  readonly tracestate: string;
  readonly idempotent: boolean;
  readonly upgrade: boolean;
  readonly class: StreamClass;
  readonly caller: Caller;
  /** HTTP method, or `/package.Service/Method`. */
  readonly method: string;
  /** Raw path and query as the caller wrote them, not decoded; "" for gRPC. */
  readonly path: string;
  /** HTTP headers or gRPC metadata. */
  readonly headers: FlatHeaders;
};

/** Answer's head. gRPC: status 0 and the initial metadata. */
export type Head = { readonly status: number; readonly headers: FlatHeaders };

/** gRPC: status code, message, metadata. HTTP: 0, "", trailers. */
export type Trailer = { readonly status: number; readonly message: string; readonly headers: FlatHeaders };

const KINDS = ["http", "grpc"] as const;
const CLASSES = ["unary", "watch", "interactive", "bulk"] as const;
const CALLERS = ["rails", "pat", "ci", "cookie", "kas"] as const;
const IDEMPOTENT = 1;
const UPGRADE = 2;

const packr = new Packr({ useRecords: false });

function pack(fields: readonly unknown[], what: string): Uint8Array {
  const bytes = packr.pack(fields);
  if (bytes.length > MAX_MESSAGE_BYTES) {
    throw failed(
      "too-large",
      `${what} is ${bytes.length} bytes; at most ${MAX_MESSAGE_BYTES} are carried: send fewer or shorter headers`,
    );
  }
  return bytes;
}

function unpack(payload: Uint8Array, what: string): unknown[] {
  let value: unknown;
  try {
    value = packr.unpack(payload);
  } catch (cause) {
    throw failed("protocol", `${what} is not msgpack`, cause);
  }
  if (!Array.isArray(value)) throw failed("protocol", `${what} is not an array`);
  return value;
}

const str = (value: unknown): string => (typeof value === "string" ? value : "");
const num = (value: unknown): number => (typeof value === "number" && value >= 0 ? value : 0);
const strings = (value: unknown): string[] => (Array.isArray(value) ? value.map(str) : []);

const packAs = (as: Impersonation | null) => (as ? [as.user, as.groups, as.uid, as.extra] : null);
function unpackAs(value: unknown): Impersonation | null {
  if (!Array.isArray(value)) return null;
  const extra = Array.isArray(value[3]) ? value[3] : [];
  return {
    user: str(value[0]),
    groups: strings(value[1]),
    uid: str(value[2]),
    extra: extra.filter(Array.isArray).map((pair: unknown[]) => [str(pair[0]), strings(pair[1])] as const),
  };
}

const packTarget = (target: Target) =>
  target.type === "kubernetes" ? "k" : target.type === "grpc" ? "g" : `s${target.name}`;
function unpackTarget(value: unknown): Target {
  const text = str(value);
  if (text === "k") return { type: "kubernetes" };
  if (text === "g") return { type: "grpc" };
  if (text.startsWith("s") && text.length > 1) return { type: "service", name: text.slice(1) };
  throw failed("protocol", "OPEN names no target this version knows");
}

/** Throws `too-large` above 64 KiB. */
export function encodeOpen(open: Open): Uint8Array {
  const flags = (open.idempotent ? IDEMPOTENT : 0) | (open.upgrade ? UPGRADE : 0);
  return pack(
    [
      open.requestId,
      open.agentId,
      open.prefer,
      open.exclude,
      KINDS.indexOf(open.kind),
      packTarget(open.target),
      open.acceptWithin,
      open.timeLeft,
      open.traceparent,
      open.tracestate,
      flags,
      CLASSES.indexOf(open.class),
      [CALLERS.indexOf(open.caller.kind), open.caller.id, packAs(open.caller.as)],
      open.method,
      open.path,
      open.headers,
    ],
    "the request's head",
  );
}

/** Throws `protocol` when the payload is not an OPEN. */
export function decodeOpen(payload: Uint8Array): Open {
  const f = unpack(payload, "OPEN");
  const kind = KINDS[num(f[4])];
  const caller = Array.isArray(f[12]) ? f[12] : [];
  const callerKind = CALLERS[num(caller[0])];
  if (kind === undefined || callerKind === undefined || !Number.isSafeInteger(f[1])) {
    throw failed("protocol", "OPEN lacks its agent, kind or caller");
  }
  const flags = num(f[10]);
  return {
    requestId: str(f[0]) as RequestId,
    agentId: f[1] as AgentId,
    prefer: num(f[2]) as ConnectionId | 0,
    exclude: (Array.isArray(f[3]) ? f[3] : []).map(num) as ConnectionId[],
    kind,
    target: unpackTarget(f[5]),
    acceptWithin: num(f[6]),
    timeLeft: num(f[7]),
    traceparent: str(f[8]),
    tracestate: str(f[9]),
    idempotent: (flags & IDEMPOTENT) !== 0,
    upgrade: (flags & UPGRADE) !== 0,
    class: CLASSES[num(f[11])] ?? "unary",
    caller: { kind: callerKind, id: str(caller[1]), as: unpackAs(caller[2]) },
    method: str(f[13]),
    path: str(f[14]),
    headers: strings(f[15]),
  };
}

export const encodeHead = (head: Head): Uint8Array => pack([head.status, head.headers], "the answer's head");

export function decodeHead(payload: Uint8Array): Head {
  const f = unpack(payload, "HEAD");
  return { status: num(f[0]), headers: strings(f[1]) };
}

export const encodeTrailer = (trailer: Trailer): Uint8Array =>
  pack([trailer.status, trailer.message, trailer.headers], "the trailer");

export function decodeTrailer(payload: Uint8Array): Trailer {
  const f = unpack(payload, "TRAILER");
  return { status: num(f[0]), message: str(f[1]), headers: strings(f[2]) };
}
