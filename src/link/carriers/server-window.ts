/**
 * HTTP/2 windows under grpc-js servers, which have no option for them: the default of 64 KiB caps a path of 20 ms at
 * 3 MB/s. A diagnostics channel names each new stream; its session is widened once, by the first of them.
 */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { ServerHttp2Session } from "node:http2";

const CHANNEL = "http2.server.stream.created";
const MIB = 1024 * 1024;
const SESSION_WINDOW = 8 * MIB;
const STREAM_WINDOW = 4 * MIB;

const sessionOf = (message: unknown): ServerHttp2Session | undefined =>
  (message as { readonly stream?: { readonly session?: ServerHttp2Session } }).stream?.session;

const kept = new WeakSet<ServerHttp2Session>();

/** Its owner chose its windows. */
export const keepsItsWindows = (session: ServerHttp2Session): void => void kept.add(session);

/** Widens the sessions of this process that `applies` picks, from now until it is disposed. */
export function widenServerWindows(applies: (session: ServerHttp2Session) => boolean = () => true): Disposable {
  const seen = new WeakSet<ServerHttp2Session>();
  const onStream = (message: unknown): void => {
    const session = sessionOf(message);
    if (!session || session.destroyed || seen.has(session)) return;
    seen.add(session);
    if (kept.has(session) || !applies(session)) return;
    session.setLocalWindowSize(SESSION_WINDOW);
    session.settings({ initialWindowSize: STREAM_WINDOW });
  };
  subscribe(CHANNEL, onStream);
  return { [Symbol.dispose]: () => void unsubscribe(CHANNEL, onStream) };
}
