/** Finds the one credential of a request: a bearer token first, else GitLab's session cookie with agent id and CSRF token. */
import { type AgentId, isAgentId } from "../../actors/ids.ts";
import type { ProxyCredential } from "../auth/auth.ts";
import { failed } from "../failed.ts";
import type { RequestHeaders } from "./request-headers.ts";
import type { RequestTarget } from "./target.ts";

const BEARER = /^Bearer +(pat|ci):(\d{1,16}):(\S+) *$/i;
const COOKIE = /(?:^|; *)_gitlab_kas=([^;]*)/;

const refuse = (why: string): never => {
  throw failed("unauthenticated", `unauthorized: ${why}`);
};

/** Throws `unauthenticated`; no part of a token is ever in its reason. */
export function readCredential(headers: RequestHeaders, target: RequestTarget): ProxyCredential {
  if (headers.authorization !== null) return readBearer(headers.authorization);
  const session = COOKIE.exec(headers.cookie)?.[1];
  if (session) return readCookie(session, headers, target);
  return refuse(
    "the request has no credentials. Send Authorization: Bearer pat:<agent id>:<token> or ci:<agent id>:<job token>",
  );
}

function readBearer(authorization: string): ProxyCredential {
  const [, kind, id, token] = BEARER.exec(authorization) ?? [];
  if (kind === undefined || id === undefined || token === undefined) {
    return refuse(
      "the Authorization header is not of the form Bearer pat:<agent id>:<token> or ci:<agent id>:<job token>",
    );
  }
  if (kind !== "pat" && kind !== "ci") return refuse('write "pat" or "ci" in lower case in the Authorization header');
  return { kind, agentId: readAgentId(id, "the Authorization header"), token, csrf: "" };
}

function readCookie(encoded: string, headers: RequestHeaders, target: RequestTarget): ProxyCredential {
  const id = headers.agentId ?? target.agentId;
  const csrf = headers.csrf ?? target.csrf;
  if (!id) return refuse("a session cookie needs the header Gitlab-Agent-Id or the query parameter gitlab-agent-id");
  if (!csrf) return refuse("a session cookie needs the header X-Csrf-Token or the query parameter gitlab-csrf-token");
  let session = "";
  try {
    session = decodeURIComponent(encoded);
  } catch {
    refuse("the session cookie is not URL-encoded");
  }
  return { kind: "cookie", agentId: readAgentId(id, "the request"), token: session, csrf };
}

function readAgentId(text: string, where: string): AgentId {
  const id = /^\d{1,16}$/.test(text) ? Number(text) : 0;
  return isAgentId(id) ? id : refuse(`the agent id in ${where} is not a positive number`);
}
