/**
 * `Auth` from a static file, without GitLab. Answers are looked up, not built: no allocation on the way in but the hash of
 * the token. A new version of the file replaces the old one at once or, when it is faulty, not at all.
 */
import { isDeepStrictEqual } from "node:util";
import { type Failure, failure } from "../../actors/failure.ts";
import type { AgentId } from "../../actors/ids.ts";
import type { Clock } from "../runtime/clock.ts";
import { failureOf } from "../status.ts";
import {
  type AgentIdentity,
  type Auth,
  type Operator,
  type ProxyAccess,
  type ProxyCredential,
  type TokenId,
  tokenIdOf,
} from "./auth.ts";
import { type Grant, parseStaticFile, type StaticTables } from "./static-file.ts";
import { watchFile } from "./watch-file.ts";

/** What happened to a new version of the file, for the log. */
export type StaticEvent =
  | { readonly type: "applied"; readonly agents: number; readonly revoked: number }
  | { readonly type: "refused"; readonly reason: string };

export type StaticAuthOptions = {
  readonly file: string;
  readonly clock: Clock;
  readonly report: (event: StaticEvent) => void;
};

/** Longer ones are refused before they are hashed. */
const MAX_TOKEN = 8192;

const UNKNOWN_AGENT = failure("unauthenticated", "the agent token is not known: check the token that agentk was given");
const UNKNOWN_OPERATOR = failure("unauthenticated", "the operator token is not known: check the token given to kasctl");
const NO_COOKIES = failure(
  "unauthenticated",
  "browser sessions need GitLab: use a token (Bearer pat:<agent id>:<token>)",
);
const UNKNOWN = {
  pat: failure("unauthenticated", "the personal token (pat) is not known: check it, or ask for access"),
  ci: failure("unauthenticated", "the job token (ci) is not known: it may have expired with its job"),
} as const;

export class StaticAuth implements Auth {
  #tables: StaticTables;
  readonly #callbacks = new Set<(tokens: ReadonlySet<TokenId>) => void>();

  readonly #watcher: AsyncDisposable | null;

  /** Owns the watcher. */
  constructor(tables: StaticTables, watcher: AsyncDisposable | null = null) {
    this.#tables = tables;
    this.#watcher = watcher;
  }

  agentOf(token: string): AgentIdentity | Failure {
    return (token.length <= MAX_TOKEN && this.#tables.agents.get(tokenIdOf(token))) || UNKNOWN_AGENT;
  }

  operatorOf(token: string): Operator | Failure {
    return (token.length <= MAX_TOKEN && this.#tables.operators.get(tokenIdOf(token))) || UNKNOWN_OPERATOR;
  }

  mayExist(agent: AgentId): boolean {
    return this.#tables.agentIds.has(agent);
  }

  proxyAccess({ kind, token, agentId }: ProxyCredential): ProxyAccess | Failure {
    if (kind === "cookie") return NO_COOKIES;
    const grants = kind === "pat" ? this.#tables.users : this.#tables.jobs;
    const grant = token.length <= MAX_TOKEN ? grants.get(tokenIdOf(token)) : undefined;
    if (!grant) return UNKNOWN[kind];
    return grant.access.get(agentId) ?? forbidden(kind, grant.id, agentId);
  }

  get hasOperators(): boolean {
    return this.#tables.operators.size > 0;
  }

  onRevoked(callback: (tokens: ReadonlySet<TokenId>) => void): Disposable {
    const own = (tokens: ReadonlySet<TokenId>) => callback(tokens);
    this.#callbacks.add(own);
    return { [Symbol.dispose]: () => void this.#callbacks.delete(own) };
  }

  /** Takes over at once; returns how many tokens may now do less than before. */
  replace(tables: StaticTables): number {
    const revoked = revokedBetween(this.#tables, tables);
    this.#tables = tables;
    if (revoked.size > 0) for (const callback of this.#callbacks) callback(revoked);
    return revoked.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#callbacks.clear();
    await this.#watcher?.[Symbol.asyncDispose]();
  }
}

/** The same words whether the agent exists or not. */
const forbidden = (kind: "pat" | "ci", id: string, agentId: number): Failure =>
  failure("forbidden", `${kind === "pat" ? `user ${id}` : id} may not use agent ${agentId}: ask its owner for access`);

/** Tokens of `before` that `after` does not know, or lets do less or something else. */
export function revokedBetween(before: StaticTables, after: StaticTables): ReadonlySet<TokenId> {
  const revoked = new Set<TokenId>();
  for (const [token, { agentId }] of before.agents)
    if (after.agents.get(token)?.agentId !== agentId) revoked.add(token);
  for (const [token, grant] of before.users) if (!covers(after.users.get(token), grant)) revoked.add(token);
  for (const [token, grant] of before.jobs) if (!covers(after.jobs.get(token), grant)) revoked.add(token);
  for (const [token, { name, role }] of before.operators) {
    const now = after.operators.get(token);
    if (now?.name !== name || (role === "admin" && now.role !== "admin")) revoked.add(token);
  }
  return revoked;
}

function covers(now: Grant | undefined, before: Grant): boolean {
  if (!now) return false;
  return [...before.access].every(([agentId, { caller, services }]) => {
    const access = now.access.get(agentId);
    return (
      access !== undefined &&
      isDeepStrictEqual(access.caller, caller) &&
      services.every((service) => access.services.includes(service))
    );
  });
}

/** Reads the file (throws `invalid` when it is faulty or missing) and follows its changes until disposed. */
export async function openStaticAuth({ file, clock, report }: StaticAuthOptions): Promise<Auth> {
  const apply = (text: string): void => {
    try {
      const tables = parseStaticFile(text, file);
      report({
        type: "applied",
        revoked: auth.replace(tables),
        agents: new Set([...tables.agents.values()].map((a) => a.agentId)).size,
      });
    } catch (error) {
      report({ type: "refused", reason: `${failureOf(error).reason}\nthe version read before stays in force` });
    }
  };
  const watcher = await watchFile({
    file,
    clock,
    changed: apply,
    unreadable: (reason) => report({ type: "refused", reason }),
  });
  let tables: StaticTables;
  try {
    tables = parseStaticFile(watcher.text, file);
  } catch (error) {
    await watcher[Symbol.asyncDispose]();
    throw error;
  }
  const auth = new StaticAuth(tables, watcher);
  return auth;
}
