/** Secret files: base64 of at least 32 bytes, one secret a line, at most two (new first, old second) while it is rotated. */

export const SECRET_BYTES = 32;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** The secrets, or what is wrong with the file; never any of its content. */
export function parseSecrets(text: string): readonly Uint8Array[] | string {
  const lines = text.split("\n").map((line) => line.trim());
  const written = lines.flatMap((line, index) => (line === "" ? [] : [{ line, number: index + 1 }]));
  if (written.length === 0) return `the file is empty: write a secret with \`openssl rand -base64 ${SECRET_BYTES}\``;
  if (written.length > 2)
    return `the file has ${written.length} lines: at most two secrets, the new one and the old one`;
  const secrets: Uint8Array[] = [];
  for (const { line, number } of written) {
    if (!BASE64.test(line))
      return `line ${number} is not base64: write it with \`openssl rand -base64 ${SECRET_BYTES}\``;
    const secret = Uint8Array.from(Buffer.from(line, "base64"));
    if (secret.length < SECRET_BYTES) {
      return `line ${number} holds ${secret.length} bytes: at least ${SECRET_BYTES}, as \`openssl rand -base64 ${SECRET_BYTES}\` writes`;
    }
    secrets.push(secret);
  }
  return secrets;
}
