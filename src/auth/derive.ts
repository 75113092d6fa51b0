/** One secret, one key per use: who holds the key of one use learns nothing about another. */
import { hkdfSync } from "node:crypto";
import type { Secrets } from "./secret-file.ts";

export type KeyUse = "bus" | "link";

const KEY_BYTES = 32;

export const deriveKey = (secret: Uint8Array, use: KeyUse): Uint8Array =>
  new Uint8Array(hkdfSync("sha256", secret, new Uint8Array(), `kas ${use} v1`, KEY_BYTES));

/** In the order of the secrets: sign with the first, accept all. */
export const deriveKeys = (secrets: Secrets, use: KeyUse): readonly Uint8Array[] =>
  secrets.flatMap((secret) => (secret ? [deriveKey(secret, use)] : []));
