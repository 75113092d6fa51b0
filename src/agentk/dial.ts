/**
 * Dials kas: one HTTP/2 connection and on it one call, `AgentTunnel/Connect`, that carries the whole link. Every dial is a
 * connection of its own, so that behind a balancer the next one can land on another node.
 */
import type { Duplex } from "node:stream";
import type { Millis } from "../../actors/actor.ts";
import type { Failure } from "../../actors/failure.ts";
import { failed } from "../failed.ts";
import { Http2Call } from "../link/carriers/http2-call.ts";
import type { Carrier } from "../link/link.ts";
import { type Clock, systemClock } from "../runtime/clock.ts";
import { authorityOf, type DialOptions } from "./kas-address.ts";
import { Authorities, openSocket, type ProxyAddress, tlsOptions } from "./kas-socket.ts";
import { openWebSocket } from "./kas-websocket.ts";
import { refusalOf } from "./refusal.ts";

export type Dialled = {
  readonly carrier: Carrier;
  /** Why kas, or the network, ended the call; null while it runs and when it ended well. */
  refusal(): Failure | null;
  /** Resolves when the call is over and what was written last has left. */
  readonly ended: Promise<void>;
};

/** Throws `Failed` when it cannot even try. */
export type Dial = () => Dialled;

const DIAL_WITHIN: Millis = 10_000;
const METHOD = "/kas.agent.v1.AgentTunnel/Connect";

/** `token` is asked before every dial, so that it can be rotated. */
export function createDial(to: DialOptions, token: () => string, version: string, clock: Clock = systemClock): Dial {
  const proxy = proxyOf(to);
  const userAgent = `agentk/${version}`;
  const inWebSocket = to.scheme === "ws" || to.scheme === "wss";
  const own = headersOf(to.headers);
  const authorities = new Authorities();
  const request = {
    scheme: to.scheme === "grpcs" ? "https" : "http",
    authority: authorityOf(to),
    path: METHOD,
  } as const;
  return () => {
    const authorization = `Bearer ${token()}`;
    const tls = tlsOptions(to, authorities);
    const headers = { ...(inWebSocket ? {} : own), "user-agent": userAgent, authorization };
    const dialling = new AbortController();
    const open = async (): Promise<Duplex> => {
      const socket = await openSocket(to, tls, proxy, dialling.signal);
      if (!inWebSocket) return socket;
      return await openWebSocket(socket, to, { ...own, "user-agent": userAgent }, dialling.signal);
    };
    let refused: Failure | null = null;
    const call = new Http2Call({
      clock,
      over(why) {
        refused = refusalOf(why, to);
        dialling.abort();
      },
    });
    const deadline = clock.schedule(clock.now() + DIAL_WITHIN, () => call.fail(tooLate(to)));
    const ended = open()
      .then((socket) => call.start(socket, { ...request, headers }))
      .catch((error: Error) => call.fail(error))
      .then(() => {
        deadline[Symbol.dispose]();
        return call.gone;
      });
    return { carrier: call, refusal: () => refused, ended };
  };
}

const tooLate = (to: DialOptions) =>
  failed(
    "node-gone",
    `no connection to kas at ${authorityOf(to)} within ${DIAL_WITHIN / 1000} s: check --kas-address, network policies and proxies`,
  );

function headersOf(headers: DialOptions["headers"]): Readonly<Record<string, string>> {
  const values = new Map<string, string>();
  for (const [name, value] of headers) {
    const before = values.get(name);
    values.set(name, before === undefined ? value : `${before}, ${value}`);
  }
  return Object.fromEntries(values);
}

function proxyOf({ proxy }: DialOptions): ProxyAddress | null {
  if (proxy === null) return null;
  const url = URL.canParse(proxy) ? new URL(proxy) : null;
  if (url?.protocol !== "http:") {
    throw failed(
      "invalid",
      "the proxy of HTTPS_PROXY must be http://host:port: proxies that speak TLS are not supported",
    );
  }
  const credential = url.username
    ? `Basic ${Buffer.from(`${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`).toString("base64")}`
    : null;
  return { host: url.hostname.replace(/^\[(.*)\]$/, "$1"), port: Number(url.port || 80), credential };
}
