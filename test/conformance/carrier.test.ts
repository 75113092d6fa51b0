/** What every carrier must do, on all there are: memory, TCP, TLS and a gRPC call, also in a WebSocket, seen from either end. */
import { once } from "node:events";
import type { ServerHttp2Session } from "node:http2";
import { type AddressInfo, createServer, connect as netConnect, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { connect as tlsConnect, createServer as tlsServer } from "node:tls";
import { Server as GrpcServer, ServerCredentials, type ServerDuplexStream } from "@grpc/grpc-js";
import { generate } from "selfsigned";
import { afterEach, describe, expect, it } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { failure } from "../../actors/failure.ts";
import { streamOf } from "../../src/grpc/server.ts";
import { CallReader, encodePrefixed } from "../../src/link/carriers/call-message.ts";
import { GRPC_LIMITS, identity, serverCallCarrier } from "../../src/link/carriers/grpc-call.ts";
import { Http2Call } from "../../src/link/carriers/http2-call.ts";
import { memoryCarriers } from "../../src/link/carriers/memory.ts";
import { widenServerWindows } from "../../src/link/carriers/server-window.ts";
import { socketCarrier } from "../../src/link/carriers/socket.ts";
import { websocketStream } from "../../src/link/carriers/websocket-stream.ts";
import type { Carrier } from "../../src/link/link.ts";
import { openLink } from "../../src/link/multiplexer.ts";
import type { StreamHandler } from "../../src/link/stream.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { bytes, helloOf, LinkNotes, Notes } from "../link/support.ts";

type Joined = {
  readonly carriers: readonly [Carrier, Carrier];
  /** Frees what is under them; resolves when nothing is left. */
  readonly free: () => Promise<void>;
};

const closed = (server: Server) => new Promise<void>((resolve) => void server.close(() => resolve()));
const listen = async (server: Server): Promise<number> => {
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
};

async function tcp(): Promise<Joined> {
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer(accepted.resolve);
  const dialled = netConnect(await listen(server), "127.0.0.1");
  return { carriers: [socketCarrier(dialled), socketCarrier(await accepted.promise)], free: () => closed(server) };
}

async function tls(): Promise<Joined> {
  const { private: key, cert } = await generate([{ name: "commonName", value: "kas" }]);
  const accepted = Promise.withResolvers<Socket>();
  const server = tlsServer({ key, cert }, accepted.resolve);
  const dialled = tlsConnect({
    port: await listen(server),
    host: "127.0.0.1",
    ca: cert,
    checkServerIdentity: () => undefined,
  });
  return { carriers: [socketCarrier(dialled), socketCarrier(await accepted.promise)], free: () => closed(server) };
}

const METHOD = "/kas.agent.v1.AgentTunnel/Connect";

/** grpc-js on the side of kas; `between` is what carries HTTP/2, seen from either end. */
async function call(between: () => Promise<readonly [dialled: Duplex, accepted: Duplex]>): Promise<Joined> {
  const accepted = Promise.withResolvers<ServerDuplexStream<Buffer, Buffer>>();
  const server = new GrpcServer({ ...GRPC_LIMITS });
  const handle = (served: ServerDuplexStream<Buffer, Buffer>) => accepted.resolve(served);
  server.register(METHOD, handle, identity, identity, "bidi");
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const [near, far] = await between();
  injector.injectConnection(far);
  const dialled = new Http2Call({ clock: systemClock, over: () => {} });
  dialled.start(near, { scheme: "http", authority: "kas", path: METHOD, headers: {} });
  const served = await accepted.promise;
  const stream = streamOf(served);
  if (!stream) throw new Error("grpc-js keeps the stream of a call elsewhere");
  const serving = serverCallCarrier(served, stream);
  const free = async () => {
    await dialled.gone;
    await new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
    await eventually(() => near.destroyed && far.destroyed);
  };
  return { carriers: [dialled, serving], free };
}

async function sockets(): Promise<readonly [Socket, Socket]> {
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer(accepted.resolve);
  const dialled = netConnect(await listen(server), "127.0.0.1");
  const pair = [dialled, await accepted.promise] as const;
  server.close();
  return pair;
}

async function websockets(): Promise<readonly [Duplex, Duplex]> {
  const accepted = Promise.withResolvers<Duplex>();
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1", clientTracking: false });
  server.on("connection", (ws) => accepted.resolve(websocketStream(ws)));
  await once(server, "listening");
  const ws = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`, { perMessageDeflate: false });
  const dialled = websocketStream(ws);
  await once(ws, "open");
  const pair = [dialled, await accepted.promise] as const;
  server.close();
  return pair;
}

const grpc = () => call(sockets);
const grpcInWebsocket = () => call(websockets);

const memory = async (): Promise<Joined> => ({ carriers: memoryCarriers(), free: async () => {} });
const turned = (join: () => Promise<Joined>) => async (): Promise<Joined> => {
  const { carriers, free } = await join();
  return { carriers: [carriers[1], carriers[0]], free };
};

type End = { chunks: Buffer[]; reasons: string[] };
const listenTo = (carrier: Carrier): End => {
  const end: End = { chunks: [], reasons: [] };
  carrier.onData = (chunk) => end.chunks.push(Buffer.from(chunk));
  carrier.onClosed = (reason) => end.reasons.push(reason);
  return end;
};
const size = ({ chunks }: End) => chunks.reduce((sum, { length }) => sum + length, 0);
const eventually = async (holds: () => boolean) => {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 1)); // the test's own deadline ends it
};

describe.each([
  ["in memory", memory],
  ["a TCP socket, dialled", tcp],
  ["a TCP socket, accepted", turned(tcp)],
  ["a TLS socket, dialled", tls],
  ["a TLS socket, accepted", turned(tls)],
  ["a gRPC call, the client's end", grpc],
  ["a gRPC call, the server's end", turned(grpc)],
  ["a gRPC call in a WebSocket, the client's end", grpcInWebsocket],
  ["a gRPC call in a WebSocket, the server's end", turned(grpcInWebsocket)],
])("the carrier %s", (_, join) => {
  let joined: Joined;
  afterEach(async () => {
    for (const carrier of joined.carriers) carrier.destroy();
    await joined.free();
  });

  it("keeps bytes and order of batches of many parts and says when it took them", async () => {
    joined = await join();
    const [from, to] = joined.carriers;
    const got = listenTo(to);
    const sent: Buffer[] = [];
    let taken = 0;
    for (let i = 0; i < 40; i++) {
      const batch = Array.from({ length: 1 + (i % 5) }, (_, j) => Buffer.alloc(1 + i * j * 37, i * 7 + j));
      sent.push(...batch);
      from.write(batch, Buffer.concat(batch).length, () => taken++);
    }
    const all = Buffer.concat(sent);
    await eventually(() => taken === 40 && size(got) === all.length);
    expect(Buffer.concat(got.chunks).equals(all)).toBe(true);
  });

  it("carries full batches and a frame larger than one, taken once each", async () => {
    joined = await join();
    const [from, to] = joined.carriers;
    const got = listenTo(to);
    let taken = 0;
    const sizes = [from.maxBatchBytes, 1_000_000, from.maxBatchBytes];
    for (const [i, length] of sizes.entries()) from.write([Buffer.alloc(length, i + 1)], length, () => taken++);
    const total = sizes.reduce((a, b) => a + b);
    await eventually(() => taken === 3 && size(got) === total);
    const all = Buffer.concat(got.chunks);
    expect([all[0], all[sizes[0] ?? 0], all.at(-1)]).toEqual([1, 2, 3]);
  });

  it("flushes what was written before it ends, and both ends hear of it once", async () => {
    joined = await join();
    const [from, to] = joined.carriers;
    const [own, got] = [listenTo(from), listenTo(to)];
    from.write([Buffer.alloc(300_000, 1)], 300_000, () => {});
    from.end();
    await eventually(() => own.reasons.length > 0 && got.reasons.length > 0);
    expect(size(got)).toBe(300_000);
    expect([own.reasons.length, got.reasons.length]).toEqual([1, 1]);
  });

  it("ends at once when destroyed, and both ends hear of it once", async () => {
    joined = await join();
    const [from, to] = joined.carriers;
    const [own, got] = [listenTo(from), listenTo(to)];
    from.destroy();
    from.destroy();
    await eventually(() => own.reasons.length > 0 && got.reasons.length > 0);
    expect([own.reasons.length, got.reasons.length]).toEqual([1, 1]);
  });

  it("does not throw when it is used after its end", async () => {
    joined = await join();
    const [from, to] = joined.carriers;
    const got = listenTo(to);
    from.destroy();
    await eventually(() => got.reasons.length > 0);
    for (const carrier of joined.carriers) {
      carrier.write([Buffer.from("late")], 4, () => {});
      carrier.end();
      carrier.destroy();
    }
  });

  it("carries a link with many streams, bulk both ways, and its orderly end", async () => {
    joined = await join();
    const events = new LinkNotes((_, stream) => {
      const echo: StreamHandler = Object.assign(new Notes(), {
        data: (chunk: Uint8Array) => stream.data(chunk),
        end: () => stream.end(),
        sent: (n: number) => stream.consumed(n),
      });
      stream.head(bytes("200"));
      return echo;
    });
    const base = { clock: systemClock, check: () => null };
    const [carrier, other] = joined.carriers;
    const there = openLink({ ...base, carrier: other, role: "acceptor", hello: helloOf("b"), events });
    const here = openLink({ ...base, carrier, role: "dialler", hello: helloOf("a"), events: new LinkNotes() });
    const all = Array.from({ length: 20 }, (_, i) => {
      const notes = new Notes();
      const stream = here.open(bytes("open"), notes, i);
      notes.data = (chunk) => {
        notes.bytes += chunk.length;
        stream.consumed(chunk.length);
      };
      stream.data(new Uint8Array(500_000));
      stream.end();
      return notes;
    });
    await eventually(() => all.every(({ told }) => told.at(-1) === "closed"));
    expect(all.map((notes) => notes.bytes)).toEqual(all.map(() => 500_000));
    here.close();
    await eventually(() => there.state === "closed" && here.state === "closed");
    expect([here.bufferedBytes, there.bufferedBytes]).toEqual([0, 0]);
    there.destroy(failure("cancelled", ""));
  });
});

it("widens the windows under a grpc-js server, once per session and only where it applies", async () => {
  const [picked, passed]: [ServerHttp2Session[], ServerHttp2Session[]] = [[], []];
  using _wide = widenServerWindows((session) => picked.push(session) > 0);
  using _narrow = widenServerWindows((session) => passed.push(session) < 0);
  const { carriers, free } = await grpc();
  const [from, to] = carriers;
  const got = listenTo(to);
  from.write([Buffer.alloc(100_000)], 100_000, () => {});
  await eventually(() => size(got) === 100_000 && picked[0]?.localSettings.initialWindowSize === 4 * 1024 * 1024);
  expect(picked[0]?.state.effectiveLocalWindowSize).toBe(8 * 1024 * 1024);
  expect([picked.length, passed.length]).toEqual([1, 1]);
  for (const carrier of carriers) carrier.destroy();
  await free();
});

/** gRPC's prefix and the message. */
const prefixed = (...message: number[]): Buffer => Buffer.from([0, 0, 0, 0, message.length, ...message]);

it("refuses messages that are not protobuf, and skips fields it does not know", () => {
  const read = (message: Buffer, got: Uint8Array[] = []) => new CallReader((part) => got.push(part)).feed(message);
  const got: Uint8Array[] = [];
  expect(read(prefixed(0x10, 0x96, 0x01, 0x0a, 2, 7, 8, 0x1a, 1, 9, 0x0a, 0, 0x25, 1, 2, 3, 4), got)).toBe(true);
  expect(got).toEqual([Buffer.from([7, 8])]);
  const broken = [[0x0a, 5, 1], [0x0b, 0], [0xff], [0x02, 0], [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff], [0x10]];
  for (const message of broken) expect(read(prefixed(...message)), message.join()).toBe(false);
});

it("hands on the bytes of messages that are cut anywhere, and takes nothing that gRPC would not send here", () => {
  const stream = Buffer.concat([
    ...encodePrefixed([Buffer.alloc(300, 1)], 300),
    Buffer.from([0, 0, 0, 0, 0]),
    ...encodePrefixed([Buffer.from("ab"), Buffer.from("c")], 3),
    ...encodePrefixed([Buffer.alloc(70_000, 2), Buffer.from("d")], 70_001),
  ]);
  for (const size of [1, 2, 4, 5, 6, 7, 305, stream.length]) {
    const got: Uint8Array[] = [];
    const reader = new CallReader((part) => got.push(part));
    for (let at = 0; at < stream.length; at += size) expect(reader.feed(stream.subarray(at, at + size))).toBe(true);
    expect(Buffer.concat(got).toString("latin1")).toBe(`${"\x01".repeat(300)}abc${"\x02".repeat(70_000)}d`);
  }
  const feed = (...bytes: number[]) => new CallReader(() => {}).feed(Buffer.from(bytes));
  expect([feed(1, 0, 0, 0, 0), feed(0, 0, 0x40, 0, 1), feed(0, 0, 0, 0, 1, 0xff)]).toEqual([false, false, false]);
});
