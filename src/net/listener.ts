/**
 * The one way this project listens: a socket is accepted, shown its certificate where TLS is on, and handed on with the
 * protocol agreed by ALPN. The listener owns every socket it accepted until that socket closes: `destroy` leaves none.
 */
import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type Server as TlsServer } from "node:tls";
import type { Millis } from "../../actors/actor.ts";
import { failed } from "../failed.ts";
import { type Clock, systemClock } from "../runtime/clock.ts";
import { formatAddress, parseAddress } from "./address.ts";
import { type Certificates, readCertificates, type TlsFiles, watchCertificates } from "./certificates.ts";
import { Pulse } from "./pulse.ts";
import { Turnstile } from "./turnstile.ts";

export type ListenOptions = {
  /** What operators call it, for messages: "agent", "kubernetes_api". */
  readonly name?: string;
  readonly address: string;
  readonly tls?: TlsFiles;
  /**
   * The socket is the receiver's from here on. It stays open for writing after the other side ended (half-close), so whoever
   * takes it must end it. `alpn` is "" without TLS or where nothing was agreed.
   */
  readonly onSocket: (socket: Socket, alpn: string) => void;
  readonly alpnProtocols?: readonly string[];
  /** TLS must be up in this time; default 10 s. */
  readonly handshakeTimeout?: Millis;
  /** Above it new sockets wait up to 2 s, then are refused; 0 or absent: no limit. */
  readonly maxHandshakesPerSecond?: number;
  /** Told of each socket that is refused for it. */
  readonly refused?: () => void;
  /** Lets several processes or workers listen on one port; the kernel spreads the sockets. */
  readonly reusePort?: boolean;
  /** A caller that says nothing for this long is asked by the kernel whether it is there, and lost 10 s later; default 25 s. */
  readonly keepAliveAfter?: Millis;
  /** How often sockets that are silent, and perhaps not read, are looked after; absent: never. */
  readonly askEvery?: Millis;
  /** How often certificate files are looked at; default 10 s. */
  readonly reloadEvery?: Millis;
  readonly clock?: Clock;
  readonly log?: ListenerLog;
};

export interface ListenerLog {
  info(message: string): void;
  warn(message: string): void;
}

export interface Listener extends AsyncDisposable {
  /** `host:port` with the port really taken. */
  readonly address: string;
  /** Sockets open now, those still in their handshake included. */
  readonly connections: number;
  /** Accepts nothing more; open sockets live on. */
  close(): void;
  /** Accepts nothing more and destroys every socket. */
  destroy(): void;
}

const KEEP_ALIVE_AFTER: Millis = 25_000;

const SILENT: ListenerLog = { info() {}, warn() {} };

/** Resolves once it listens; throws `invalid` that says what to do: a port that is taken, a certificate that cannot be read. */
export async function listen(options: ListenOptions): Promise<Listener> {
  const { clock = systemClock, log = SILENT, tls } = options;
  const what = options.name ? `the listener ${options.name}` : "a listener";
  const certificates = tls && (await readCertificates(tls));
  const handOn = handingOn(options, log, what);
  const tlsServer = certificates && createTls(options, certificates, handOn);
  const turnstile = new Turnstile(options.maxHandshakesPerSecond ?? 0, clock);
  const sockets = new Set<Socket>();
  let pulse: Pulse | undefined;
  const keepAliveInitialDelay = options.keepAliveAfter ?? KEEP_ALIVE_AFTER;

  const server = createServer(
    { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay },
    (socket) => {
      sockets.add(socket);
      pulse?.accepted(socket, tlsServer !== undefined);
      socket.on("error", ignore);
      socket.once("close", () => sockets.delete(socket));
      // A caller that ends during its handshake is gone: only what was handed on may be half-open.
      if (tlsServer) socket.allowHalfOpen = false;
      const enter = () => (tlsServer ? tlsServer.emit("connection", socket) : handOn(socket, ""));
      if (turnstile.pass(enter, () => socket.destroyed)) return;
      socket.resetAndDestroy();
      options.refused?.();
    },
  );
  await bind(server, options, what);

  const watch =
    tls && certificates && tlsServer
      ? watchCertificates(tls, {
          clock,
          every: options.reloadEvery ?? 10_000,
          current: certificates,
          changed(fresh) {
            tlsServer.setSecureContext(fresh);
            log.info(`${what} uses the new certificate of ${tls.certificateFile}`);
          },
          refused: (reason) => log.warn(`${what} keeps its old certificate: ${reason}`),
        })
      : undefined;
  if (options.askEvery) pulse = new Pulse(clock, options.askEvery);
  tlsServer?.on("secureConnection", (secure) => pulse?.secured(secure));
  return new OpenListener({ server, sockets, turnstile, watch, pulse });
}

type Parts = {
  readonly server: Server;
  readonly sockets: ReadonlySet<Socket>;
  readonly turnstile: Turnstile;
  readonly watch: Disposable | undefined;
  readonly pulse: Disposable | undefined;
};

class OpenListener implements Listener {
  readonly address: string;
  readonly #parts: Parts;
  readonly #closed: Promise<void>;

  constructor(parts: Parts) {
    this.#parts = parts;
    const bound = parts.server.address();
    this.address = bound === null || typeof bound === "string" ? "" : formatAddress(bound);
    this.#closed = new Promise((resolve) => parts.server.once("close", resolve));
  }

  get connections(): number {
    return this.#parts.sockets.size;
  }

  close(): void {
    if (this.#parts.server.listening) this.#parts.server.close();
    this.#parts.watch?.[Symbol.dispose]();
  }

  destroy(): void {
    this.close();
    this.#parts.turnstile[Symbol.dispose]();
    this.#parts.pulse?.[Symbol.dispose]();
    for (const socket of this.#parts.sockets) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const gone = [...this.#parts.sockets].map(closing);
    this.destroy();
    await Promise.all([this.#closed, ...gone]);
  }
}

const closing = (socket: Socket): Promise<void> => new Promise((resolve) => socket.once("close", () => resolve()));

/** A socket that fails must not end the process, whoever holds it at that moment. */
function ignore(): void {}

function handingOn({ onSocket }: ListenOptions, log: ListenerLog, what: string) {
  return (socket: Socket, alpn: string): void => {
    try {
      onSocket(socket, alpn);
    } catch (error) {
      log.warn(`${what} dropped a socket that could not be served: ${String(error)}`);
      socket.destroy();
    }
  };
}

/** Never listens itself: sockets come by `emit("connection")`, after the turnstile. */
function createTls(
  { tls, alpnProtocols, handshakeTimeout = 10_000 }: ListenOptions,
  certificates: Certificates,
  handOn: (socket: Socket, alpn: string) => void,
): TlsServer {
  const wantsClient = tls?.clientCaFile !== undefined;
  const server = createTlsServer({
    ...certificates,
    allowHalfOpen: true,
    handshakeTimeout,
    requestCert: wantsClient,
    rejectUnauthorized: wantsClient,
    ...(alpnProtocols && { ALPNProtocols: [...alpnProtocols] }),
  });
  server.on("secureConnection", (socket) => {
    socket.allowHalfOpen = true;
    socket.on("error", ignore);
    handOn(socket, socket.alpnProtocol || "");
  });
  server.on("tlsClientError", (_error, socket) => socket.destroy());
  return server;
}

const ADVICE: Readonly<Record<string, string>> = {
  EADDRINUSE: "another process has that port: stop it, or set another port (0 takes a free one)",
  EACCES: "this user may not take that port: choose one above 1023, or grant CAP_NET_BIND_SERVICE",
  EADDRNOTAVAIL: "no interface of this machine has that address: use one of its own, or :port for all",
  ENOTSUP: "this system cannot share a port among processes: --workers needs Linux 3.9 or later",
  ENOTFOUND: "the host name has no address: use an IP address, or :port for all interfaces",
};

function bind(server: Server, { address, reusePort = false }: ListenOptions, what: string): Promise<void> {
  const { host, port } = parseAddress(address);
  return new Promise((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const advice = ADVICE[cause.code ?? ""] ?? cause.message;
      reject(failed("invalid", `${what} cannot listen on ${address}: ${advice} (${cause.code ?? "no code"})`, cause));
    });
    server.listen({ port, reusePort, ...(host && { host }) }, () => {
      server.removeAllListeners("error");
      server.on("error", ignore); // accept errors (EMFILE): the next accept may succeed
      resolve();
    });
  });
}
