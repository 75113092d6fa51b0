import { type ClientHttp2Stream, connect as connectHttp2, constants } from "node:http2";
import { connect, type Socket } from "node:net";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import {
  Gateway,
  type StreamRequestSchema,
  type StreamResponse,
  StreamResponseSchema,
} from "../../src/gen/kas/gateway/v1/gateway_pb.ts";
import { WINDOW } from "./fake-router.ts";
import { failureCode, startRails, statusOf, type TestRails, TOKEN, until } from "./rails.ts";

const KiB = 1024;
const PATH = "/kas.gateway.v1.Gateway/Stream";
type Part = MessageInitShape<typeof StreamRequestSchema>["part"];

const head = (path: string, more: object = {}): Part => ({
  case: "head",
  value: { agentId: 7n, method: "GET", path, ...more },
});
const data = (bytes: Uint8Array): Part => ({ case: "data", value: bytes });
const { input } = Gateway.method.stream;
const message = (part: Part) => Buffer.from(toBinary(input, create(input, part ? { part } : {})));
const bodyOf = (replies: readonly StreamResponse[]) =>
  Buffer.concat(replies.flatMap(({ part }) => (part.case === "data" ? [part.value] : [])));

function framed(part: Part): Buffer {
  const bytes = message(part);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([prefix, bytes]);
}

/** A caller whose connection can be cut in any way. */
type Caller = { readonly socket: Socket; readonly call: ClientHttp2Stream };

describe("Gateway.Stream", () => {
  let rails: TestRails;
  beforeEach(async () => {
    rails = await startRails();
  });
  afterEach(async () => {
    await rails[Symbol.asyncDispose]();
    expect({ streams: rails.router.streams, sockets: rails.sockets.size, bugs: rails.bugs }).toEqual({
      streams: 0,
      sockets: 0,
      bugs: [],
    });
  });

  const stream = (...parts: Part[]) =>
    rails.call(
      Gateway.method.stream,
      parts.map((part) => (part ? { part } : {})),
    );

  async function dial(): Promise<Caller> {
    const socket = connect(Number(rails.address.split(":")[1]), "127.0.0.1");
    const session = connectHttp2(`http://${rails.address}`, { createConnection: () => socket });
    for (const each of [socket, session]) each.on("error", () => {});
    const headers = { "content-type": "application/grpc", te: "trailers", authorization: `bearer ${TOKEN}` };
    const call = session.request({ ":method": "POST", ":path": PATH, ...headers });
    call.on("error", () => {});
    return { socket, call };
  }

  it("answers head, data and trailers in this order and ends with OK", async () => {
    rails.router.on("/echo", async (served) => {
      served.head(200, ["x-a", "1"]);
      for (let piece = await served.read(); piece; piece = await served.read()) await served.data(piece);
      served.trailer(0, "", ["x-end", "yes"]);
      served.end();
    });
    const body = Buffer.alloc(9 * 1024 * KiB, "abcdefg");

    const parts = Array.from({ length: 9 }, (_, i) => data(body.subarray(i * 1024 * KiB, (i + 1) * 1024 * KiB)));
    const { replies, status: ended } = await stream(head("/echo", { method: "PUT" }), ...parts);

    expect(ended.code).toBe(status.OK);
    expect(replies[0]?.part).toMatchObject({
      case: "head",
      value: { status: 200, headers: [{ name: "x-a", value: "1" }] },
    });
    expect(replies.at(-1)?.part).toMatchObject({
      case: "trailers",
      value: { headers: [{ name: "x-end", value: "yes" }] },
    });
    expect(bodyOf(replies).equals(body)).toBe(true);
    expect(rails.router.requests).toMatchObject([{ class: "bulk", upgrade: false, idempotent: false, timeLeft: 0 }]);
  });

  it("tells watches and upgrades from the rest", async () => {
    const done = (served: { head: (status: number) => void; end: () => void }) => {
      served.head(200);
      served.end();
    };
    rails.router.on("/pods", done).on("/exec", done);

    await stream(head("/pods?watch=true"));
    await stream(head("/pods?watching=true"));
    await stream(head("/exec", { headers: [{ name: "Upgrade", value: "websocket" }] }));

    expect(rails.router.requests).toMatchObject([
      { class: "watch", upgrade: false, idempotent: true },
      { class: "bulk", upgrade: false, idempotent: true },
      { class: "interactive", upgrade: true, idempotent: false, headers: ["upgrade", "websocket"] },
    ]);
  });

  it("carries an upgraded connection both ways at once", async () => {
    rails.router.on("/exec", async (served) => {
      served.head(101, ["upgrade", "websocket"]);
      for (let piece = await served.read(); piece; piece = await served.read()) await served.data(piece);
      served.end();
    });
    const call = rails.open(PATH);
    const replies: StreamResponse[] = [];
    call.on("data", (bytes: Buffer) => replies.push(fromBinary(StreamResponseSchema, bytes)));
    const ended = statusOf(call);

    call.write(message(head("/exec", { headers: [{ name: "upgrade", value: "websocket" }] })));
    await until(() => replies.length === 1);
    expect(replies[0]?.part).toMatchObject({ value: { status: 101 } });
    for (const word of ["one", "two"]) {
      const before = replies.length;
      call.write(message(data(Buffer.from(word))));
      await until(() => replies.length === before + 1);
      expect(Buffer.from(replies.at(-1)?.part.value as Uint8Array).toString()).toBe(word);
    }
    call.end();

    expect((await ended).code).toBe(status.OK);
  });

  it("holds no more than a window for a reader that stops, and gives it all when it reads on", async () => {
    const size = 8 * 1024 * KiB;
    let sent = 0;
    rails.router.on("/big", async (served) => {
      served.head(200);
      for (; sent < size; sent += 64 * KiB) await served.data(Buffer.alloc(64 * KiB));
      served.end();
    });
    const call = rails.open(PATH);
    const ended = statusOf(call);
    call.write(message(head("/big")));
    call.end();
    let received = 0;
    call.on("data", (bytes: Buffer) => {
      const { part } = fromBinary(StreamResponseSchema, bytes);
      if (part.case === "head") call.pause();
      if (part.case === "data") received += part.value.length;
    });
    // The agent must come to a stand well before the end.
    let before = -1;
    while (sent !== before) {
      before = sent;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    expect(sent).toBeGreaterThan(0);
    expect(sent).toBeLessThan(size / 4);
    expect(rails.router.peakUnconsumed).toBeLessThanOrEqual(WINDOW);

    call.resume();

    expect((await ended).code).toBe(status.OK);
    expect(received).toBe(size);
    expect(rails.router.peakUnconsumed).toBeLessThanOrEqual(WINDOW);
  });

  it("reads no further while the agent does not take what was sent", async () => {
    let go = () => {};
    const started = new Promise<void>((resolve) => {
      go = resolve;
    });
    let received = 0;
    rails.router.on("/upload", async (served) => {
      await started;
      for (let piece = await served.read(); piece; piece = await served.read()) received += piece.length;
      served.head(200);
      served.end();
    });
    const call = rails.open(PATH);
    call.on("data", () => {});
    const ended = statusOf(call);
    call.write(message(head("/upload", { method: "PUT" })));
    for (let i = 0; i < 128; i += 1) call.write(message(data(Buffer.alloc(32 * KiB))));
    call.end();
    await until(() => rails.router.peakQueued >= 64 * KiB);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(rails.router.peakQueued).toBeLessThanOrEqual(96 * KiB);

    go();

    expect((await ended).code).toBe(status.OK);
    expect(received).toBe(128 * 32 * KiB);
  });

  it("takes thousands of small messages that come at once", async () => {
    let received = 0;
    rails.router.on("/upload", async (served) => {
      for (let piece = await served.read(); piece; piece = await served.read()) received += piece.length;
      served.head(200);
      served.end();
    });
    const parts = Array.from({ length: 20_000 }, () => data(Buffer.from("x")));

    const { status: ended } = await stream(head("/upload"), ...parts);

    expect([ended.code, received]).toEqual([status.OK, 20_000]);
  });

  it("delivers an answer that comes before the body ended, and reads on without keeping", async () => {
    rails.router.on("/early", async (served) => {
      await served.read();
      served.stop();
      served.head(403);
      await served.data(Buffer.from("no"));
      served.end();
    });
    const parts = Array.from({ length: 64 }, () => data(Buffer.alloc(64 * KiB)));

    const { replies, status: ended } = await stream(head("/early", { method: "PUT" }), ...parts);

    expect(ended.code).toBe(status.OK);
    expect(bodyOf(replies).toString()).toBe("no");
  });

  it("ends an answer that is cut off with a status other than OK", async () => {
    rails.router.on("/half", async (served) => {
      served.head(200);
      await served.data(Buffer.from("half"));
      served.fail(failure("outcome-unknown", "the link broke"));
    });

    const { replies, status: ended } = await stream(head("/half"));

    expect(bodyOf(replies).toString()).toBe("half");
    expect(ended).toMatchObject({ code: status.ABORTED, details: "the link broke" });
    expect(failureCode(ended)).toBe("outcome-unknown");
  });

  it("resets the stream at once when the caller leaves", async () => {
    rails.router.on("/watch", (served) => served.head(200));
    const call = rails.open(PATH);
    call.on("data", () => {});
    call.write(message(head("/watch")));
    await until(() => rails.router.streams === 1);

    call.cancel();

    await until(() => rails.router.streams === 0);
    expect(rails.router.resets).toMatchObject([{ failure: { code: "cancelled" }, unprocessed: false }]);
  });

  it.each([
    { left: "resets its stream", leave: ({ call }: Caller) => call.close(constants.NGHTTP2_CANCEL) },
    { left: "closes its connection", leave: ({ socket }: Caller) => void socket.destroy() },
    { left: "resets its connection", leave: ({ socket }: Caller) => void socket.resetAndDestroy() },
  ])("resets the stream at once when a caller $left whose upload waits for the agent", async ({ leave }) => {
    rails.router.on("/deaf", () => {});
    const caller = await dial();
    caller.call.write(framed(head("/deaf", { method: "PUT" })));
    for (let i = 0; i < 128; i += 1) caller.call.write(framed(data(Buffer.alloc(32 * KiB))));
    await until(() => rails.router.peakQueued >= 64 * KiB);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(rails.router.streams).toBe(1);

    leave(caller);

    await until(() => rails.router.streams === 0);
    expect(rails.router.resets).toMatchObject([{ failure: { code: "cancelled" }, unprocessed: false }]);
    caller.socket.destroy();
  });

  it("resets every stream of a connection that is lost", async () => {
    rails.router.on("/watch", (served) => served.head(200));
    for (let i = 0; i < 3; i += 1) {
      const call = rails.open(PATH);
      call.on("data", () => {});
      call.write(message(head("/watch")));
    }
    await until(() => rails.router.streams === 3);

    for (const socket of rails.sockets) socket.destroy();

    await until(() => rails.router.streams === 0);
    expect(rails.router.resets).toHaveLength(3);
  });

  it("refuses messages out of order", async () => {
    rails.router.on("/", () => {});
    const faults: Part[][] = [[], [data(Buffer.from("x"))], [undefined], [head("/"), head("/")]];
    for (const parts of faults) {
      const { status: ended } = await stream(...parts);
      expect([ended.code, failureCode(ended)]).toEqual([status.INVALID_ARGUMENT, "invalid"]);
    }
    await until(() => rails.router.streams === 0);
  });
});
