/**
 * Who may do what: the contract that the listeners ask. Answers may be immediate (static file) or promised (GitLab), a
 * refusal is a `Failure`, never an exception. A token is known by its id (its SHA-256), so that nobody needs to keep it.
 */
import { hash } from "node:crypto";
import type { Failure } from "../../actors/failure.ts";
import type { AgentId } from "../../actors/ids.ts";
import type { Caller } from "../link/messages.ts";

/** SHA-256 of a token, hex. What `onRevoked` names. */
export type TokenId = string;

export type AgentIdentity = {
  readonly agentId: AgentId;
  readonly name: string;
  readonly projectId: number;
  readonly tokenId: TokenId;
};

/** What a caller of the Kubernetes API proxy showed. `csrf` is for cookies; "" otherwise. */
export type ProxyCredential = {
  readonly kind: "pat" | "ci" | "cookie";
  readonly agentId: AgentId;
  readonly token: string;
  readonly csrf: string;
};

export type ProxyAccess = {
  readonly caller: Caller;
  /** In-cluster services of this agent that the caller may use. */
  readonly services: readonly string[];
  readonly tokenId: TokenId;
};

export type Operator = { readonly name: string; readonly role: "viewer" | "admin"; readonly tokenId: TokenId };

export type Answer<Value> = Value | Failure | Promise<Value | Failure>;

export interface Auth extends AsyncDisposable {
  agentOf(token: string): Answer<AgentIdentity>;
  /** False only where it is certain that there is no such agent; true also where nobody can tell. */
  mayExist(agent: AgentId): boolean;
  proxyAccess(credential: ProxyCredential): Answer<ProxyAccess>;
  operatorOf(token: string): Answer<Operator>;
  /** False: no operator is configured, and the observability listener serves its resources to loopback only. */
  readonly hasOperators: boolean;
  /** Tokens that are gone, or may do less than before: what they opened must end. Disposing the handle ends the calls. */
  onRevoked(callback: (tokens: ReadonlySet<TokenId>) => void): Disposable;
}

/** Tells a refusal from what was asked for: no value of this contract has a `code`. */
export const isRefusal = (answer: object): answer is Failure => "code" in answer;

export const tokenIdOf = (token: string): TokenId => hash("sha256", token);
