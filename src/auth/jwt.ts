/**
 * Tokens of Rails: HS256 only, for the audience `gitlab-kas`, never without an end. The issuer is not checked: Rails sends
 * its host name. A token that was checked is remembered until it ends, so that showing it again costs one hash.
 */
import { errors, jwtVerify } from "jose";
import type { Millis } from "../../actors/actor.ts";
import { type Failure, failure } from "../../actors/failure.ts";
import { type TokenId, tokenIdOf } from "./auth.ts";
import type { Secrets } from "./secret-file.ts";

export const AUDIENCE = "gitlab-kas";
const SKEW_SECONDS = 30;
const MAX_REMEMBERED = 1000;
const MAX_TOKEN = 8192;

/** A token that was accepted; `until` is wall clock, skew included. */
export type VerifiedJwt = { readonly issuer: string; readonly until: Millis };

export class JwtVerifier {
  readonly #secrets: Secrets;
  readonly #wallClock: () => Millis;
  /** In the order of last use. */
  readonly #remembered = new Map<TokenId, VerifiedJwt>();
  #latest: TokenId | null = null;

  /** `wallClock` is milliseconds since 1970. */
  constructor(secrets: Secrets, wallClock: () => Millis) {
    this.#secrets = secrets;
    this.#wallClock = wallClock;
  }

  /** Immediate for a token seen before. */
  verify(token: string): VerifiedJwt | Failure | Promise<VerifiedJwt | Failure> {
    if (token.length > MAX_TOKEN) return refuse("the token is longer than 8 KiB");
    const id = tokenIdOf(token);
    const known = this.#remembered.get(id);
    if (!known) return this.#check(token, id);
    const expired = known.until <= this.#wallClock();
    // Rails shows one token often: moving it each time would be a new table for the Map every few calls
    if (id === this.#latest && !expired) return known;
    this.#remembered.delete(id);
    if (expired) return refuse(EXPIRED);
    this.#put(id, known);
    return known;
  }

  get remembered(): number {
    return this.#remembered.size;
  }

  async #check(token: string, id: TokenId): Promise<VerifiedJwt | Failure> {
    let refusal = refuse("no secret is configured");
    for (const secret of this.#secrets) {
      if (!secret) continue;
      const result = await verifyWith(secret, token, this.#wallClock());
      if (!("code" in result)) {
        this.#remember(id, result);
        return result;
      }
      refusal = result;
      // Signed with this secret, so the others have nothing to say.
      if (result !== WRONG_SIGNATURE) break;
    }
    return refusal;
  }

  #remember(id: TokenId, verified: VerifiedJwt): void {
    this.#put(id, verified);
    if (this.#remembered.size <= MAX_REMEMBERED) return;
    const [oldest] = this.#remembered.keys();
    if (oldest !== undefined) this.#remembered.delete(oldest);
  }

  #put(id: TokenId, verified: VerifiedJwt): void {
    this.#remembered.set(id, verified);
    this.#latest = id;
  }
}

const EXPIRED = "the token has expired: sign a new one, and compare the clocks of GitLab and kas";
const refuse = (why: string): Failure => failure("unauthenticated", `JWT validation failed: ${why}`);

const WRONG_SIGNATURE = refuse(
  "the signature does not match: GitLab's secret and api.listen.authentication_secret_file differ",
);

async function verifyWith(secret: Uint8Array, token: string, now: Millis): Promise<VerifiedJwt | Failure> {
  try {
    const { payload } = await jwtVerify(token, secret, {
      algorithms: ["HS256"],
      audience: AUDIENCE,
      clockTolerance: SKEW_SECONDS,
      requiredClaims: ["exp"],
      currentDate: new Date(now),
    });
    return { issuer: payload.iss ?? "", until: ((payload.exp ?? 0) + SKEW_SECONDS) * 1000 };
  } catch (error) {
    return error instanceof errors.JWSSignatureVerificationFailed ? WRONG_SIGNATURE : refuse(reasonOf(error));
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof errors.JWTExpired) return EXPIRED;
  if (error instanceof errors.JWTClaimValidationFailed) return `the claim ${error.claim} is missing or wrong`;
  if (error instanceof errors.JOSEAlgNotAllowed) return "the algorithm is not HS256";
  return "it is no JWT that kas understands";
}
