/**
 * The certificate files of a TLS listener, read again every few seconds (a Kubernetes secret changes by symbolic link, which
 * file watchers miss). A new set is used only if it is whole and fits together; otherwise the one in use stays.
 */
import { readFile } from "node:fs/promises";
import { createSecureContext, type SecureContextOptions } from "node:tls";
import type { Millis } from "../../actors/actor.ts";
import { Failed, failed } from "../failed.ts";
import type { Clock } from "../runtime/clock.ts";

export type TlsFiles = {
  readonly certificateFile: string;
  readonly keyFile: string;
  /** Callers must show a certificate that one of these signed. */
  readonly clientCaFile?: string;
};

export type Certificates = Pick<SecureContextOptions, "cert" | "key" | "ca" | "minVersion">;

async function read(path: string, what: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw failed(
      "invalid",
      `cannot read the ${what} ${path}: ${text(cause)}. Check the path and its permissions`,
      cause,
    );
  }
}

/** Reads and checks them; throws `invalid` naming the file at fault. */
export async function readCertificates({ certificateFile, keyFile, clientCaFile }: TlsFiles): Promise<Certificates> {
  const cert = await read(certificateFile, "certificate file");
  const key = await read(keyFile, "key file");
  const ca = clientCaFile === undefined ? undefined : await read(clientCaFile, "client CA file");
  const minVersion = "TLSv1.2";
  check({ cert, minVersion }, `the certificate file ${certificateFile} holds no certificate in PEM form`);
  check({ key, minVersion }, `the key file ${keyFile} holds no private key in PEM form without a passphrase`);
  check({ cert, key, minVersion }, `the certificate ${certificateFile} and the key ${keyFile} do not belong together`);
  if (ca === undefined) return { cert, key, minVersion };
  if (!ca.includes("-----BEGIN ")) {
    throw failed("invalid", `the client CA file ${clientCaFile} holds no certificate in PEM form`);
  }
  check({ ca, minVersion }, `the client CA file ${clientCaFile} holds no certificate in PEM form`);
  return { cert, key, ca, minVersion };
}

function check(options: SecureContextOptions, otherwise: string): void {
  try {
    createSecureContext(options);
  } catch (cause) {
    throw failed("invalid", `${otherwise} (${text(cause)})`, cause);
  }
}

const text = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const fingerprint = ({ cert, key, ca }: Certificates): string => [cert, key, ca].map(String).join("\0");

export type WatchOptions = {
  readonly clock: Clock;
  readonly every: Millis;
  readonly current: Certificates;
  readonly changed: (certificates: Certificates) => void;
  /** Told once for each faulty set. */
  readonly refused: (reason: string) => void;
};

/** Looks at the files every `every` until disposed. */
export function watchCertificates(
  files: TlsFiles,
  { clock, every, current, changed, refused }: WatchOptions,
): Disposable {
  let inUse = fingerprint(current);
  let lastRefusal = "";
  let stopped = false;
  let timer = clock.schedule(clock.now() + every, look);

  async function look(): Promise<void> {
    try {
      const fresh = await readCertificates(files);
      if (stopped) return;
      const print = fingerprint(fresh);
      if (print !== inUse) changed(fresh);
      inUse = print;
      lastRefusal = "";
    } catch (error) {
      const reason = error instanceof Failed ? error.failure.reason : text(error);
      if (!stopped && reason !== lastRefusal) refused(reason);
      lastRefusal = reason;
    }
    if (!stopped) timer = clock.schedule(clock.now() + every, look);
  }

  return {
    [Symbol.dispose]() {
      stopped = true;
      timer[Symbol.dispose]();
    },
  };
}
