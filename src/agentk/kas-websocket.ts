/** The WebSocket to kas over a socket that is open: its handshake, and in words of --kas-address what is wrong with the answer. */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { WebSocket } from "ws";
import type { Failed } from "../failed.ts";
import { failed } from "../failed.ts";
import { MAX_WS_MESSAGE_BYTES, WS_TUNNEL, websocketStream } from "../link/carriers/websocket-stream.ts";
import { authorityOf, type DialOptions } from "./kas-address.ts";
import { httpRefusal } from "./refusal.ts";

type Headers = Readonly<Record<string, string>>;

export function openWebSocket(socket: Socket, to: DialOptions, headers: Headers, signal: AbortSignal): Promise<Duplex> {
  const { promise, resolve, reject } = Promise.withResolvers<Duplex>();
  const ws = new WebSocket(`${to.scheme}://${authorityOf(to)}${to.path}`, [WS_TUNNEL], {
    createConnection: () => socket,
    headers: { ...headers },
    perMessageDeflate: false,
    followRedirects: false,
    maxPayload: MAX_WS_MESSAGE_BYTES,
  });
  const stream = websocketStream(ws); // before it is open: kas speaks first
  const abort = () => void stream.destroy();
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) abort();
  const settle = () => signal.removeEventListener("abort", abort);
  const fail = (why: Failed) => {
    settle();
    stream.destroy();
    socket.destroy();
    reject(why);
  };
  ws.once("unexpected-response", (_request, response: IncomingMessage) => {
    fail(failed("node-gone", httpRefusal(to, response.statusCode ?? 0, response.headers.location ?? "")));
  });
  ws.once("error", (error) => {
    fail(failed("node-gone", `no WebSocket with kas at ${authorityOf(to)}${to.path}: ${error.message}`, error));
  });
  ws.once("open", () => {
    settle();
    resolve(stream);
  });
  return promise;
}
