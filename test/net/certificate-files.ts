/** Certificates made at start, in a folder of the test's own. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generate } from "selfsigned";

export type Pair = { readonly cert: string; readonly key: string };

export async function makePair(name: string): Promise<Pair> {
  const { cert, private: key } = await generate([{ name: "commonName", value: name }], {
    keySize: 2048,
    extensions: [{ name: "subjectAltName", altNames: [{ type: 2, value: "localhost" }] }],
  });
  return { cert, key };
}

export class CertificateFiles implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "listener-"));
  readonly certificateFile = join(this.#folder, "tls.crt");
  readonly keyFile = join(this.#folder, "tls.key");
  readonly clientCaFile = join(this.#folder, "ca.crt");

  write({ cert, key }: Pair): this {
    writeFileSync(this.certificateFile, cert);
    writeFileSync(this.keyFile, key);
    return this;
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true });
  }
}
