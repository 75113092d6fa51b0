/** Reads a secret file: the new secret first, and while it is rotated the old one second. */
import { parseSecrets } from "../config/secret.ts";
import { failed } from "../failed.ts";

export type Secrets = readonly [current: Uint8Array, previous?: Uint8Array];

/** `readFile` throws where there is none. Throws `invalid`, never with any of the content. */
export function readSecrets(file: string, readFile: (path: string) => string): Secrets {
  let text: string;
  try {
    text = readFile(file);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw failed("invalid", `the secret file ${file} cannot be read: ${why}; check its name and permissions`, cause);
  }
  const secrets = parseSecrets(text);
  if (typeof secrets === "string") throw failed("invalid", `the secret file ${file}: ${secrets}`);
  const [current, previous] = secrets;
  if (!current) throw failed("invalid", `the secret file ${file} holds no secret`);
  return previous ? [current, previous] : [current];
}
