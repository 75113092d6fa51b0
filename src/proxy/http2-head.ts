/**
 * The head of an HTTP/2 request told as an HTTP/1.1 head, so that one set of rules judges both: `:authority` is Host, and where
 * both are there they agree. What nghttp2 refuses by itself (connection headers, a second Host or :authority) never comes here.
 */
import { failure } from "../../actors/failure.ts";
import type { RawRequest } from "./admission.ts";
import { tooLargeHeaders } from "./malformed.ts";
import type { ProxyLimits } from "./visit.ts";
import type { Verdict } from "./wire.ts";

export type Http2Head = RawRequest & {
  /** -1: not announced. */
  readonly contentLength: number;
  /** What the one Expect that is understood asks for. */
  readonly awaitsContinue: boolean;
  readonly fault: Verdict | null;
};

type Reading = {
  method: string;
  url: string;
  authority: string | null;
  contentLength: number;
  expect: string;
  bytes: number;
  fault: Verdict | null;
  readonly fields: string[];
};

const refusal = (reason: string): Verdict => ({ failure: failure("invalid", `bad request: ${reason}`), status: 400 });

const CONNECT_REFUSED = refusal("CONNECT is not served here");
const TWO_HOSTS = refusal("the headers :authority and Host name different hosts");
const UNKNOWN_EXPECTATION = refusal("the only Expect that is understood is 100-continue");

/** `open`: a body follows, however long it is. */
export function readHttp2Head(raw: readonly string[], open: boolean, limits: ProxyLimits): Http2Head {
  const r: Reading = {
    ...{ method: "", url: "", authority: null, contentLength: -1, expect: "", bytes: 0, fault: null },
    fields: [],
  };
  for (let i = 0; i + 1 < raw.length; i += 2) readOne(r, raw[i] ?? "", raw[i + 1] ?? "");
  // What HTTP/1.1 would have said of a body that does not tell its length.
  if (open && r.contentLength < 0) r.fields.push("transfer-encoding", "chunked");
  if (r.method === "CONNECT") r.fault = CONNECT_REFUSED;
  if (r.expect !== "" && r.expect !== "100-continue") r.fault ??= UNKNOWN_EXPECTATION;
  if (r.bytes > limits.maxHeaderBytes) r.fault = tooLargeHeaders(limits);
  const { method, url, fields: rawHeaders, contentLength, fault } = r;
  return { method, url, rawHeaders, contentLength, awaitsContinue: r.expect !== "", fault };
}

function readOne(r: Reading, name: string, value: string): void {
  r.bytes += name.length + value.length + 4; // as HTTP/1.1 would write it
  switch (name) {
    case ":method":
      r.method = value;
      return;
    case ":path":
      r.url = value;
      return;
    case ":scheme":
      return;
    case ":authority":
      r.authority = value;
      r.fields.push("host", value);
      return;
    case "host":
      readHost(r, value);
      return;
    case "content-length":
      r.contentLength = Number(value);
      break;
    case "expect":
      r.expect = value.toLowerCase();
      break;
  }
  r.fields.push(name, value);
}

/** nghttp2 lets only one through, and no request without either. */
function readHost(r: Reading, value: string): void {
  if (r.authority === null) r.fields.push("host", value);
  else if (r.authority.toLowerCase() !== value.toLowerCase()) r.fault ??= TWO_HOSTS;
}
