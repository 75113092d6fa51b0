/**
 * Who we are to NATS. Files are read anew at every connection, so that credentials can be replaced while we run; a file
 * that cannot be read costs one attempt (the server refuses it and we try again), never the client.
 */
import { readFileSync } from "node:fs";
import {
  type Auth,
  type Authenticator,
  credsAuthenticator,
  nkeyAuthenticator,
  tokenAuthenticator,
  usernamePasswordAuthenticator,
} from "@nats-io/transport-node";
import type { BusProblem } from "./bus.ts";

export type NatsCredentials = {
  readonly servers: readonly string[];
  /** A `.creds` file: JWT and seed. */
  readonly credentialsFile?: string | undefined;
  readonly nkeySeedFile?: string | undefined;
};

export function authenticators(credentials: NatsCredentials, problem: BusProblem): Authenticator[] {
  const { servers, credentialsFile, nkeySeedFile } = credentials;
  const found: Authenticator[] = [];
  if (credentialsFile) found.push(fromFile(credentialsFile, credsAuthenticator, problem));
  if (nkeySeedFile) found.push(fromFile(nkeySeedFile, nkeyAuthenticator, problem));
  const url = servers.map(urlOf).find(({ username }) => username !== "");
  if (url) found.push(fromUrl(url));
  return found;
}

/** The address without its credentials, as the client wants it. */
export const serverAddress = (server: string): string => urlOf(server).host;

const urlOf = (server: string): URL => new URL(server.includes("://") ? server : `nats://${server}`);

function fromUrl({ username, password }: URL): Authenticator {
  const user = decodeURIComponent(username);
  return password ? usernamePasswordAuthenticator(user, decodeURIComponent(password)) : tokenAuthenticator(user);
}

function fromFile(path: string, make: (contents: Uint8Array) => Authenticator, problem: BusProblem): Authenticator {
  return (nonce): Auth => {
    try {
      return make(new TextEncoder().encode(readFileSync(path, "utf8").trim()))(nonce);
    } catch (cause) {
      problem(`cannot use the NATS credentials in ${path}: check that the file is there and whole`, cause);
      return undefined;
    }
  };
}
