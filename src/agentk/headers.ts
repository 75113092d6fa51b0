/**
 * Which headers cross the agent. Names are compared in lower case. Whatever speaks about one connection only, or claims an
 * identity that the caller has towards kas and not towards the upstream, stays here.
 */
import type { FlatHeaders } from "../link/messages.ts";

/** A fixed set: names listed in a `Connection` header are not obeyed, or a caller could have ours removed. */
const HOP_BY_HOP = new Set([
  "connection",
  "keep-alive",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
  "expect",
]);
const CLAIMS = new Set(["host", "authorization", "cookie", "x-forwarded-client-cert"]);
const isClaim = (name: string): boolean =>
  CLAIMS.has(name) || name.startsWith("x-remote-") || name.startsWith("impersonate-");
/** Hop by hop all of them: proxy-connection, proxy-authenticate, proxy-authorization. */
const isHopByHop = (name: string): boolean => HOP_BY_HOP.has(name) || name.startsWith("proxy-");

/** What of the caller's headers the upstream may see; `impersonation.ts` writes the Impersonate-* ones afresh. */
export function requestHeaders(headers: FlatHeaders): string[] {
  const kept: string[] = [];
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = (headers[i] ?? "").toLowerCase();
    if (!isHopByHop(name) && !isClaim(name)) kept.push(name, headers[i + 1] ?? "");
  }
  return kept;
}

/** Value of the first header of this lower-case name; "" without one. */
export function headerOf(headers: FlatHeaders, name: string): string {
  for (let i = 0; i + 1 < headers.length; i += 2) {
    if (headers[i]?.toLowerCase() === name) return headers[i + 1] ?? "";
  }
  return "";
}

export function without(headers: FlatHeaders, ...names: readonly string[]): string[] {
  return headers.filter((_, i) => !names.includes(headers[i - (i % 2)] ?? ""));
}

/** The answer's headers as undici read them (name and value in turn); `upgraded` keeps `upgrade`, which is then the answer itself. */
export function answerHeaders(raw: unknown, upgraded: boolean): string[] {
  const kept: string[] = [];
  if (!Array.isArray(raw)) return kept;
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = text(raw[i]).toLowerCase();
    if (!isHopByHop(name) || (upgraded && name === "upgrade")) kept.push(name, text(raw[i + 1]));
  }
  return kept;
}

const text = (value: unknown): string => (Buffer.isBuffer(value) ? value.toString("latin1") : String(value));
