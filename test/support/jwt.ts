/** Signs tokens as Rails does, and as Rails never would. */
import { SignJWT } from "jose";

export type JwtClaims = { readonly iss?: string; readonly aud?: string; readonly exp?: number; readonly nbf?: number };

/** Seconds since 1970 for `exp` and `nbf`. Without claims: a token of Rails, good for 60 s from `now`. */
export function signJwt(secret: Uint8Array, claims: JwtClaims = {}, alg = "HS256", now = Date.now()): Promise<string> {
  const seconds = Math.floor(now / 1000);
  const all = {
    iss: "gitlab.example.com",
    aud: "gitlab-kas",
    iat: seconds,
    nbf: seconds - 5,
    exp: seconds + 60,
    ...claims,
  };
  return new SignJWT(JSON.parse(JSON.stringify(all))).setProtectedHeader({ alg, typ: "JWT" }).sign(secret);
}
