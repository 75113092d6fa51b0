/**
 * What a caller shows: `Authorization: Bearer <token>`, and on the Kubernetes API proxy `Bearer pat:<agent id>:<token>` or
 * `Bearer ci:…`. A refusal says which kind was seen, never any of the token.
 */
import { type Failure, failure } from "../../actors/failure.ts";
import { isAgentId } from "../../actors/ids.ts";
import type { ProxyCredential } from "./auth.ts";

const BEARER = /^bearer +([\x21-\x7e]+) *$/i;
const HOW = "send one header `Authorization: Bearer pat:<agent id>:<token>` or `Bearer ci:<agent id>:<token>`";

const refuse = (why: string): Failure => failure("unauthenticated", why);

/** The token of the only `authorization` value there is. */
export function bearerToken(values: readonly string[]): string | Failure {
  const [value] = values;
  if (value === undefined) return refuse("no credentials: send the header `Authorization: Bearer <token>`");
  if (values.length > 1) return refuse(`${values.length} Authorization headers: send one`);
  return BEARER.exec(value)?.[1] ?? refuse("the Authorization header is not `Bearer <token>`");
}

export function parseProxyCredential(values: readonly string[]): ProxyCredential | Failure {
  if (values.length === 0) return refuse(`no credentials: ${HOW}`);
  const bearer = bearerToken(values);
  if (typeof bearer !== "string") return bearer;
  const first = bearer.indexOf(":");
  const kind = bearer.slice(0, Math.max(0, first));
  if (kind !== "pat" && kind !== "ci") return refuse(`the bearer token is neither of kind pat nor ci: ${HOW}`);
  const second = bearer.indexOf(":", first + 1);
  if (second < 0) return refuse(`the ${kind} credential has no token after its agent id: ${HOW}`);
  const digits = bearer.slice(first + 1, second);
  const agentId = /^[1-9]\d{0,15}$/.test(digits) ? Number(digits) : 0;
  if (!isAgentId(agentId)) return refuse(`the ${kind} credential has no valid agent id: ${HOW}`);
  const token = bearer.slice(second + 1);
  if (token === "") return refuse(`the ${kind} credential has an empty token: ${HOW}`);
  return { kind, agentId, token, csrf: "" };
}
