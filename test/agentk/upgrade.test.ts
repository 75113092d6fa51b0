import { createHash, randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { afterEach, expect, it } from "vitest";
import { WebSocketServer } from "ws";
import { apiServer, type TestApiServer, type Upgraded } from "./api-server.ts";
import { Caller, executorTo } from "./caller.ts";

let stack = new AsyncDisposableStack();
afterEach(async () => {
  await stack.disposeAsync();
  stack = new AsyncDisposableStack();
});

const SWITCH =
  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4\r\n\r\n";

type Lab = { readonly server: TestApiServer; readonly open: () => Caller; readonly sockets: Duplex[] };

/** An API server that upgrades; `upgraded` has the socket after the request. */
async function lab(upgraded: Upgraded): Promise<Lab> {
  const sockets: Duplex[] = [];
  const server = stack.use(
    await apiServer(
      (_, response) => response.end(),
      (request, socket, head) => {
        sockets.push(socket);
        // A server's HTTP socket ends both sides at once unless told not to.
        (socket as Socket).allowHalfOpen = true;
        upgraded(request, socket, head);
      },
    ),
  );
  const executor = stack.use(executorTo(server.url));
  const headers = ["upgrade", "SPDY/3.1", "x-stream-protocol-version", "v4", "content-length", "0"];
  const open = () =>
    new Caller(executor.execute, { method: "POST", path: "/exec", upgrade: true, headers }, { end: false });
  return { server, open, sockets };
}

it("answers 101 with its headers and carries bytes both ways, those in the first packet too", async () => {
  const { open, server } = await lab((_, socket) => {
    socket.write(`${SWITCH}hello`);
    socket.pipe(socket);
  });
  const caller = await open().until((c) => c.text === "hello");
  expect(caller.head_).toEqual({ status: 101, headers: ["upgrade", "SPDY/3.1", "x-stream-protocol-version", "v4"] });
  expect(caller.wasAccepted).toBe(true);
  caller.stream.data(Buffer.from(" echo"));
  await caller.until((c) => c.text === "hello echo");
  caller.stream.end();
  await caller.done();
  expect(caller).toMatchObject({ ended: true, reset_: null });
  await server.until((s) => s.sockets.size === 0);
});

it("sends what the caller said before the 101 only after it, and ends only its own direction", async () => {
  const { open, server } = await lab((_, socket, head) => {
    const got: Buffer[] = [head];
    socket.write(SWITCH);
    socket.on("data", (chunk) => got.push(chunk));
    socket.on("end", () => socket.end(`got ${Buffer.concat(got)}`));
  });
  const caller = open();
  caller.stream.data(Buffer.from("early "));
  caller.stream.data(Buffer.from("words"));
  caller.stream.end();
  await caller.done();
  expect(caller.text).toBe("got early words");
  expect(caller.reset_).toBeNull();
  await server.until((s) => s.sockets.size === 0);
});

it("keeps the caller's direction open after the upstream ended its own", async () => {
  let received = "";
  const { open, server } = await lab((_, socket) => {
    socket.end(`${SWITCH}bye`);
    socket.on("data", (chunk) => {
      received += chunk;
    });
  });
  const caller = await open().until((c) => c.ended);
  expect([caller.text, caller.isClosed]).toEqual(["bye", false]);
  caller.stream.data(Buffer.from("last words"));
  caller.stream.end();
  await caller.done();
  await server.until((s) => s.sockets.size === 0);
  expect(received).toBe("last words");
});

it("carries 8 MB each way at once, under credit", async () => {
  const { open } = await lab((_, socket) => {
    socket.write(SWITCH);
    socket.pipe(socket);
  });
  const body = randomBytes(8 * 1024 * 1024);
  const caller = open();
  caller.stream.data(body);
  caller.stream.end();
  await caller.done();
  const hash = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
  expect(hash(Buffer.concat(caller.chunks))).toBe(hash(body));
  expect(caller.stream.mostOutstanding).toBeLessThanOrEqual(64 * 1024);
  expect(caller.executor.mostOutstanding).toBeLessThanOrEqual(64 * 1024);
});

it("passes an answer that is no 101 on as it is, and leaves nothing open", async () => {
  const { open, server } = await lab((_, socket) => {
    socket.end("HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\nno exec");
  });
  const caller = open();
  await caller.until((c) => c.ended);
  expect([caller.head_?.status, caller.header("content-type"), caller.text]).toEqual([403, "text/plain", "no exec"]);
  caller.stream.end();
  await caller.done();
  expect(caller.reset_).toBeNull();
  await server.until((s) => s.sockets.size === 0);
});

it("resets the stream when the upgraded connection is dropped", async () => {
  const { open, sockets } = await lab((_, socket) => socket.write(`${SWITCH}x`));
  const caller = await open().until((c) => c.bytes === 1);
  (sockets[0] as Socket).resetAndDestroy();
  await caller.done();
  expect(caller.ended).toBe(false);
  expect(caller.reset_).toMatchObject({ unprocessed: false, failure: { code: "outcome-unknown" } });
});

it("resets the stream when the connection is dropped before the 101", async () => {
  const { open } = await lab((_, socket) => socket.destroy());
  const caller = await open().done();
  expect(caller.head_).toBeNull();
  expect(caller.reset_).toMatchObject({ unprocessed: false, failure: { code: "outcome-unknown" } });
});

it("closes the upgraded connection at once when the caller resets", async () => {
  const { open, server } = await lab((_, socket) => {
    socket.write(`${SWITCH}x`);
    socket.resume().on("end", () => socket.end());
  });
  const caller = await open().until((c) => c.bytes === 1);
  caller.stream.reset({ failure: { code: "cancelled", reason: "" }, unprocessed: false });
  await server.until((s) => s.sockets.size === 0);
});

it("uses a connection of its own for each upgrade", async () => {
  const { open, server } = await lab((_, socket) => {
    socket.write(`${SWITCH}x`);
    socket.resume().on("end", () => socket.end());
  });
  const first = await open().until((c) => c.bytes === 1);
  const second = await open().until((c) => c.bytes === 1);
  expect(server.sockets.size).toBe(2);
  for (const caller of [first, second]) {
    caller.stream.reset({ failure: { code: "cancelled", reason: "" }, unprocessed: false });
  }
  await server.until((s) => s.sockets.size === 0);
});

it("stops reading while the caller takes nothing", async () => {
  let written = 0;
  const { open } = await lab((_, socket) => {
    socket.write(SWITCH);
    const chunk = Buffer.alloc(64 * 1024);
    const more = () => {
      do written += chunk.length;
      while (socket.write(chunk) && written < 1 << 28);
      socket.once("drain", more);
    };
    more();
  });
  const caller = open();
  caller.reading = false;
  await caller.until((c) => c.bytes === 64 * 1024);
  for (let same = 0, last = -1; same < 200; same = written === last ? same + 1 : 0) {
    last = written;
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(caller.executor.queued).toBeLessThanOrEqual(192 * 1024);
  expect(written).toBeLessThan(1 << 27);
  caller.stream.reset({ failure: { code: "cancelled", reason: "" }, unprocessed: false });
});

it("carries a WebSocket whose handshake the caller made", async () => {
  const sockets = new WebSocketServer({ noServer: true });
  stack.defer(() => sockets.close());
  const { server } = await lab((request, socket, head) => {
    sockets.handleUpgrade(request, socket, head, (ws) => ws.on("message", (message) => ws.send(`re: ${message}`)));
  });
  const executor = stack.use(executorTo(server.url));
  const key = Buffer.alloc(16).toString("base64");
  const headers = ["Upgrade", "websocket", "sec-websocket-key", key, "sec-websocket-version", "13"];
  const caller = new Caller(executor.execute, { upgrade: true, headers }, { end: false });
  await caller.until((c) => c.head_ !== null);
  const accept = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
  expect(caller.header("sec-websocket-accept")).toBe(accept);
  caller.stream.data(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]));
  await caller.until((c) => c.bytes > 2);
  expect(caller.text.slice(2)).toBe("re: hi");
  caller.stream.reset({ failure: { code: "cancelled", reason: "" }, unprocessed: false });
});

it("is refused without an Upgrade header", async () => {
  const { server } = await lab((_, socket) => socket.destroy());
  const executor = stack.use(executorTo(server.url));
  const caller = await new Caller(executor.execute, { upgrade: true }).done();
  expect(caller.reset_?.failure.code).toBe("invalid");
});
