/** What callers show: bearer tokens, proxy credentials, Rails' JWTs; and the secrets behind them. */
import { describe, expect, it } from "vitest";
import { deriveKey, deriveKeys } from "../../src/auth/derive.ts";
import { JwtVerifier } from "../../src/auth/jwt.ts";
import { bearerToken, parseProxyCredential } from "../../src/auth/proxy-credential.ts";
import { readSecrets } from "../../src/auth/secret-file.ts";
import { type JwtClaims, signJwt } from "../support/jwt.ts";

const secret = (byte: number) => new Uint8Array(32).fill(byte);

describe("proxy credentials", () => {
  it.each([
    ["Bearer pat:1:abc", { kind: "pat", agentId: 1, token: "abc" }],
    ["bearer  ci:42:a:b:c ", { kind: "ci", agentId: 42, token: "a:b:c" }],
  ])("reads %j", (value, expected) => expect(parseProxyCredential([value])).toMatchObject(expected));

  it.each([
    [[], /no credentials/],
    [["Bearer pat:1:s3cret", "Bearer pat:1:s3cret"], /2 Authorization headers/],
    [["Basic s3cret"], /not `Bearer/],
    [["Bearer"], /not `Bearer/],
    [["Bearer s3cret"], /neither of kind pat nor ci/],
    [["Bearer foo:1:s3cret"], /neither of kind/],
    [["Bearer pat:x:s3cret"], /pat credential has no valid agent id/],
    [["Bearer ci:0:s3cret"], /ci credential has no valid agent id/],
    [["Bearer ci:01:s3cret"], /agent id/],
    [["Bearer ci:9007199254740992:s3cret"], /agent id/],
    [["Bearer pat:s3cret"], /no token after/],
    [["Bearer pat:1:"], /empty token/],
    [["Bearer pat:1:s3cret x"], /not `Bearer/],
  ])("refuses %j and never repeats the token", (values, why) => {
    const refusal = parseProxyCredential(values);
    expect(refusal).toMatchObject({ code: "unauthenticated", reason: expect.stringMatching(why) });
    expect(JSON.stringify(refusal)).not.toContain("s3cret");
  });

  it("reads a bearer token whatever the case of its scheme", () => {
    expect(bearerToken(["bEARER abc"])).toBe("abc");
    expect(bearerToken(["Bearer a", "Bearer a"])).toMatchObject({ code: "unauthenticated" });
  });
});

describe("Rails' tokens", () => {
  const NOW = 1_700_000_000_000;
  let now = NOW;
  const verifier = () => new JwtVerifier([secret(1), secret(2)], () => now);
  const sign = (claims: JwtClaims = {}, key = secret(1), alg = "HS256") => signJwt(key, claims, alg, NOW);
  const seconds = (offset: number) => NOW / 1000 + offset;

  it("accepts either secret and any issuer", async () => {
    expect(await verifier().verify(await sign())).toMatchObject({ issuer: "gitlab.example.com" });
    expect(await verifier().verify(await sign({ iss: "else" }, secret(2)))).toMatchObject({ issuer: "else" });
  });

  it.each([
    ["another secret", () => sign({}, secret(3)), /signature/],
    ["another audience", () => sign({ aud: "gitlab" }), /claim aud/],
    ["an end that passed more than 30 s ago", () => sign({ exp: seconds(-31) }), /expired/],
    ["a beginning more than 30 s ahead", () => sign({ nbf: seconds(31) }), /claim nbf/],
    ["HS512", () => sign({}, new Uint8Array(64).fill(1), "HS512"), /not HS256/],
    ["no algorithm", async () => `${btoa('{"alg":"none"}')}.${(await sign()).split(".")[1]}.`, /./],
    ["no JWT", async () => "s3cret", /no JWT/],
    ["a token too long", async () => "x".repeat(9000), /longer/],
  ])("refuses %s", async (_, token, why) => {
    const refusal = await verifier().verify(await token());
    expect(refusal).toMatchObject({ code: "unauthenticated", reason: expect.stringMatching(why) });
    expect(JSON.stringify(refusal)).not.toContain("s3cret");
  });

  it("refuses a token without end", async () => {
    const { SignJWT } = await import("jose");
    const token = await new SignJWT({ aud: "gitlab-kas" }).setProtectedHeader({ alg: "HS256" }).sign(secret(1));
    expect(await verifier().verify(token)).toMatchObject({ reason: expect.stringContaining("claim exp") });
  });

  it("says that a token of the older secret has expired, not that its signature is wrong", async () => {
    expect(await verifier().verify(await sign({ exp: seconds(-60) }))).toMatchObject({
      reason: expect.stringContaining("expired"),
    });
  });

  it("allows a skew of 30 s, answers a repeated token at once, and forgets it at its end", async () => {
    now = NOW;
    const jwt = verifier();
    const token = await sign({ exp: seconds(-29) });
    expect(await jwt.verify(token)).toHaveProperty("until", NOW + 1000);
    expect(jwt.verify(token)).toHaveProperty("until", NOW + 1000);
    now = NOW + 1000;
    expect(jwt.verify(token)).toMatchObject({ code: "unauthenticated" });
    expect(jwt.remembered).toBe(0);
    now = NOW;
  });

  it("remembers at most 1,000 tokens, the latest used", async () => {
    const jwt = verifier();
    const first = await sign({ iss: "0" });
    await jwt.verify(first);
    for (let i = 1; i <= 1000; i += 1) await jwt.verify(await sign({ iss: String(i) }));
    expect(jwt.remembered).toBe(1000);
    expect(jwt.verify(first)).toBeInstanceOf(Promise);
  });
});

describe("secrets", () => {
  const line = (byte: number) => Buffer.from(secret(byte)).toString("base64");
  it("are read from a file, new first", () => {
    expect(readSecrets("f", () => `${line(1)}\n${line(2)}\n`)).toEqual([secret(1), secret(2)]);
    expect(() => readSecrets("f", () => "short")).toThrow(/the secret file f: line 1/);
    expect(() =>
      readSecrets("f", () => {
        throw new Error("EACCES");
      }),
    ).toThrow(/f cannot be read: EACCES/);
  });

  it("give another key for each use and each secret, always the same", () => {
    const keys = [deriveKey(secret(1), "bus"), deriveKey(secret(1), "link"), deriveKey(secret(2), "bus"), secret(1)];
    expect(new Set(keys.map((key) => Buffer.from(key).toString("hex"))).size).toBe(4);
    expect(deriveKeys([secret(1), secret(2)], "bus")).toEqual([keys[0], keys[2]]);
    expect(deriveKeys([secret(1)], "link")).toEqual([deriveKey(secret(1), "link")]);
  });
});
