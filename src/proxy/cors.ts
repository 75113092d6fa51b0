/** CORS for GitLab's own pages: exact origins only, fixed lists, nothing the caller says is reflected but its listed origin. */
import type { FlatHeaders } from "../link/messages.ts";

const METHODS = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";
const HEADERS = "Accept, Authorization, Content-Type, Gitlab-Agent-Id, X-Csrf-Token, X-Requested-With";
const EXPOSED = "X-Kas-Trace-Id, Gitlab-Unauthorized, Warning";

/** For every answer to a page of that origin; nothing for other origins. */
export function corsHeaders(origin: string, allowed: readonly string[]): FlatHeaders {
  if (allowed.length === 0) return [];
  if (origin === "" || !allowed.includes(origin)) return ["vary", "Origin"];
  return [
    ...["access-control-allow-origin", origin, "access-control-allow-credentials", "true"],
    ...["access-control-expose-headers", EXPOSED, "vary", "Origin"],
  ];
}

/** A preflight of a listed origin; it carries no credentials and goes no further. */
export const preflightHeaders = (cors: FlatHeaders): string[] => [
  ...cors,
  ...["access-control-allow-methods", METHODS, "access-control-allow-headers", HEADERS],
  ...["access-control-max-age", "86400", "content-length", "0"],
];
