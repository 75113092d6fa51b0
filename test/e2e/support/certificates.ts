/** Certificates made at start: one authority and one server certificate for 127.0.0.1 and localhost. */
import { writeFileSync } from "node:fs";
import { generate } from "selfsigned";
import type { RunDir } from "./run-dir.ts";

export type Certificates = {
  readonly ca: string;
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
};

export async function makeCertificates(dir: RunDir, name = "tls"): Promise<Certificates> {
  const authority = await generate([{ name: "commonName", value: `${name} test authority` }], {
    keyType: "ec",
    algorithm: "sha256",
    extensions: [
      { name: "basicConstraints", cA: true, critical: true },
      { name: "keyUsage", keyCertSign: true, cRLSign: true, digitalSignature: true, critical: true },
    ],
  });
  const server = await generate([{ name: "commonName", value: "kas.test" }], {
    keyType: "ec",
    algorithm: "sha256",
    ca: { key: authority.private, cert: authority.cert },
    extensions: [
      { name: "basicConstraints", cA: false },
      { name: "keyUsage", digitalSignature: true, critical: true },
      { name: "extKeyUsage", serverAuth: true, clientAuth: true },
      {
        name: "subjectAltName",
        altNames: [
          { type: 2, value: "localhost" },
          { type: 2, value: "kas.test" },
          { type: 7, ip: "127.0.0.1" },
        ],
      },
    ],
  });
  const files = {
    caFile: dir.file(`${name}-ca.pem`),
    certFile: dir.file(`${name}.pem`),
    keyFile: dir.file(`${name}.key`),
  };
  writeFileSync(files.caFile, authority.cert);
  writeFileSync(files.certFile, server.cert);
  writeFileSync(files.keyFile, server.private, { mode: 0o600 });
  return { ca: authority.cert, ...files };
}
