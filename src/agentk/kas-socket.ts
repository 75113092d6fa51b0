/**
 * The socket to kas: TCP, through an HTTP proxy by CONNECT where one is set, TLS on top where the scheme says so. What goes
 * wrong is told in words of the flags that would help. A dial that is given up leaves no socket behind.
 */
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { connect, isIP, type Socket } from "node:net";
import {
  type ConnectionOptions,
  connect as connectTls,
  createSecureContext,
  getCACertificates,
  type SecureContext,
  type TLSSocket,
} from "node:tls";
import type { Failed } from "../failed.ts";
import { failed } from "../failed.ts";
import { authorityOf, type DialOptions } from "./kas-address.ts";

export type ProxyAddress = {
  readonly host: string;
  readonly port: number;
  /** Value of the Proxy-Authorization header. */
  readonly credential: string | null;
};

/** Whom to trust: reading all the authorities that are trusted anyway takes longer than a dial, so it is done once per file. */
export class Authorities {
  #text: string | null = null;
  #context: SecureContext | null = null;

  /** Throws `invalid`. */
  with(path: string): SecureContext {
    const text = readAuthority(path);
    if (this.#context === null || text !== this.#text) {
      this.#context = createSecureContext({ ca: [text, ...getCACertificates("default")] });
      this.#text = text;
    }
    return this.#context;
  }
}

/** null without TLS. The file adds to the authorities that are trusted anyway; it is read on every dial: it may be rotated. */
export function tlsOptions(to: DialOptions, authorities: Authorities): ConnectionOptions | null {
  const { scheme, host, caCertFile, tlsServerName, insecureSkipTlsVerify } = to;
  if (scheme === "grpc" || scheme === "ws") return null;
  const name = tlsServerName ?? host;
  return {
    host: name,
    servername: isIP(name) ? "" : name,
    ALPNProtocols: [scheme === "grpcs" ? "h2" : "http/1.1"],
    rejectUnauthorized: !insecureSkipTlsVerify,
    ...(caCertFile !== null && { secureContext: authorities.with(caCertFile) }),
  };
}

function readAuthority(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw failed("invalid", `cannot read --kas-ca-cert-file ${path}: check that it exists and may be read`, cause);
  }
}

export async function openSocket(
  to: DialOptions,
  tls: ConnectionOptions | null,
  proxy: ProxyAddress | null,
  signal: AbortSignal,
): Promise<Socket> {
  const socket = proxy ? await throughProxy(to, proxy, signal) : await direct(to, signal);
  return tls ? await encrypted(socket, to, tls, signal) : socket;
}

async function direct(to: DialOptions, signal: AbortSignal): Promise<Socket> {
  const socket = connect({ host: to.host, port: to.port, noDelay: true, keepAlive: true });
  await opened(socket, "connect", signal, (error) =>
    failed("node-gone", `the connection to kas at ${authorityOf(to)} failed: ${textOf(error)}`, error),
  );
  return socket;
}

async function encrypted(
  socket: Socket,
  to: DialOptions,
  options: ConnectionOptions,
  signal: AbortSignal,
): Promise<Socket> {
  const tls = connectTls({ ...options, socket });
  await opened(tls, "secureConnect", signal, (error) => tlsFailure(tls, to, error));
  return tls;
}

function tlsFailure(tls: TLSSocket, to: DialOptions, error: NodeJS.ErrnoException): Failed {
  const address = authorityOf(to);
  if (tls.authorizationError) {
    return failed(
      "node-gone",
      `the certificate of kas at ${address} is not accepted: ${textOf(error)}. Give the authority that issued it with --kas-ca-cert-file, or the name that it is for with --kas-tls-server-name`,
      error,
    );
  }
  const [plain, advice] = ADVICE[to.scheme === "wss" ? "wss" : "grpcs"];
  const what = error.code === NO_PROTOCOL ? advice : `Check that it speaks TLS on this port, or use ${plain}`;
  return failed("node-gone", `no TLS with kas at ${address}: ${textOf(error)}. ${what}`, error);
}

const NO_PROTOCOL = "ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL";
/** What to use instead of TLS, and what it means that the other side does not speak our protocol inside it. */
const ADVICE = {
  grpcs: ["grpc://", "It takes no HTTP/2 there: check --kas-address, or use wss:// where only HTTP/1.1 passes"],
  wss: ["ws://", "It takes no WebSockets there: set agent.listen.websocket on kas, or use grpcs://"],
} as const;

/** Resolves on `event`; otherwise the socket is destroyed and the error is what `explain` makes of it. */
function opened(socket: Socket, event: string, signal: AbortSignal, explain: (error: Error) => Failed): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => void socket.destroy();
    const settle = () => signal.removeEventListener("abort", abort);
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) abort();
    socket.on("error", (error) => reject(explain(error))); // stays: who takes the socket over may come a moment later
    socket.once("close", () => {
      settle();
      reject(explain(new Error("it was closed")));
    });
    socket.once(event, () => {
      settle();
      resolve();
    });
  });
}

function throughProxy(to: DialOptions, proxy: ProxyAddress, signal: AbortSignal): Promise<Socket> {
  const name = `the proxy ${authorityOf(proxy)} of HTTPS_PROXY`;
  const authority = authorityOf(to);
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  const asking = request({
    host: proxy.host,
    port: proxy.port,
    method: "CONNECT",
    path: authority,
    agent: false,
    headers: { host: authority, ...(proxy.credential !== null && { "proxy-authorization": proxy.credential }) },
  });
  const abort = () => void asking.destroy();
  signal.addEventListener("abort", abort, { once: true });
  asking.once("close", () => signal.removeEventListener("abort", abort));
  asking.on("error", (error) => {
    reject(
      failed("node-gone", `${name} cannot be reached (${textOf(error)}): check it, or set NO_PROXY for kas`, error),
    );
  });
  asking.once("response", (response) => {
    response.destroy();
    reject(refused(name, authority, response.statusCode));
  });
  asking.once("connect", (response, socket: Socket, head) => {
    socket.on("error", () => {});
    if (response.statusCode !== 200 || signal.aborted) {
      socket.destroy();
      reject(refused(name, authority, response.statusCode));
      return;
    }
    socket.setNoDelay(true);
    socket.setKeepAlive(true);
    if (head.length > 0) socket.unshift(head);
    resolve(socket);
  });
  asking.end();
  return promise;
}

const refused = (name: string, authority: string, status = 0): Failed =>
  failed(
    "node-gone",
    `${name} does not connect to kas at ${authority}: HTTP ${status}${status === 407 ? ": put user and password into HTTPS_PROXY" : ""}`,
  );

/** OpenSSL's errors have a short text besides a long one, and several addresses that all failed have none together. */
const textOf = (error: Error): string => {
  if ("reason" in error && typeof error.reason === "string") return error.reason;
  const code: unknown = "code" in error ? error.code : "";
  return error.message || String(code || error.name);
};
