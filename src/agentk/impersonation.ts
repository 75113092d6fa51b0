/**
 * As whom the API server sees a request. At most one source may speak: the caller's grant (`Open.caller.as`), the agent's
 * own kubeconfig, or Impersonate-* headers of the request; two at once would run as somebody nobody named, so it is refused.
 */
import { type Failure, failure } from "../../actors/failure.ts";
import type { FlatHeaders, Impersonation } from "../link/messages.ts";

const PREFIX = "impersonate-";
const GROUP = "impersonate-group";
/** The one system group that grants nothing by itself. */
const HARMLESS_GROUP = "system:authenticated";

/** Headers that make the API server act as the right user, or why the agent will not ask for that. */
export function impersonate(
  as: Impersonation | null,
  own: Impersonation | null,
  fromCaller: FlatHeaders,
): FlatHeaders | Failure {
  const named = fromCaller.some((name, i) => i % 2 === 0 && name.toLowerCase().startsWith(PREFIX));
  const sources = [as && "the caller's grant", own && "the agent's kubeconfig", named && "Impersonate-* headers"];
  const speaking = sources.filter((source) => typeof source === "string");
  if (speaking.length > 1) {
    return failure(
      "forbidden",
      `nested impersonation is not supported: ${speaking.join(" and ")} both name a user; leave one of them out`,
    );
  }
  if (named) return refusedGroup(fromCaller) ?? fromCaller.filter((_, i) => isImpersonation(fromCaller, i));
  const identity = as ?? own;
  if (!identity) return [];
  const headers = headersOf(identity);
  if (identity.user === "") return failure("forbidden", "impersonation without a user name: name the user");
  return refusedGroup(headers) ?? headers;
}

const isImpersonation = (headers: FlatHeaders, i: number): boolean =>
  (headers[i - (i % 2)] ?? "").toLowerCase().startsWith(PREFIX);

function refusedGroup(headers: FlatHeaders): Failure | null {
  for (let i = 0; i < headers.length; i += 2) {
    const group = headers[i + 1] ?? "";
    if (headers[i]?.toLowerCase() !== GROUP || !group.startsWith("system:") || group === HARMLESS_GROUP) continue;
    return failure(
      "forbidden",
      `the agent does not impersonate the group "${group}": of the system: groups only ${HARMLESS_GROUP} may be named; use a group of your own and bind it by RBAC`,
    );
  }
  return null;
}

function headersOf({ user, groups, uid, extra }: Impersonation): FlatHeaders {
  const headers = ["impersonate-user", bytes(user)];
  if (uid) headers.push("impersonate-uid", bytes(uid));
  for (const group of groups) headers.push(GROUP, bytes(group));
  for (const [key, values] of extra) {
    for (const value of values) headers.push(`impersonate-extra-${escapeKey(key)}`, bytes(value));
  }
  return headers;
}

/** Header values travel as bytes: Kubernetes reads them as UTF-8, HTTP libraries write one byte per character. */
const bytes = (value: string): string => Buffer.from(value, "utf8").toString("latin1");

/** As client-go does it: lower case, and whatever may not stand in a header name percent-encoded. */
const escapeKey = (key: string): string =>
  bytes(key.toLowerCase()).replace(
    /[^a-z0-9!#$&'*+.^_`|~-]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`,
  );
