/** What agentk dials with and what it says when the other end is not kas, on real sockets. */
import { once } from "node:events";
import { createServer as createHttp, type IncomingMessage, type RequestListener } from "node:http";
import { createServer as createHttp2, type Http2Server, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { createServer as createTls } from "node:tls";
import { generate } from "selfsigned";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { WebSocketServer } from "ws";
import { createDial, type Dialled } from "../../src/agentk/dial.ts";
import type { DialOptions } from "../../src/agentk/kas-address.ts";
import { websocketStream } from "../../src/link/carriers/websocket-stream.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

let stack = new AsyncDisposableStack();
beforeEach(() => {
  stack = new AsyncDisposableStack();
});
afterEach(() => stack.disposeAsync());

async function listening(server: Server | Http2Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => sockets.add(socket));
  stack.defer(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, "close");
  });
  return (server.address() as AddressInfo).port;
}

const DIRECT = {
  scheme: "grpc",
  host: "127.0.0.1",
  path: "/",
  headers: [],
  caCertFile: null,
  tlsServerName: null,
  insecureSkipTlsVerify: false,
  proxy: null,
} as const;

const dial = (options: Partial<DialOptions> & { readonly port: number }, clock = systemClock): Dialled =>
  createDial({ ...DIRECT, ...options }, () => "secret", "1.2.3", clock)();

/** The refusal, once the call is over and its socket closed. */
async function refusal(dialled: Dialled) {
  const reasons: string[] = [];
  dialled.carrier.onClosed = (reason) => reasons.push(reason);
  await dialled.ended;
  expect(reasons).toHaveLength(1);
  return dialled.refusal();
}

const http2 = async (serve: (stream: ServerHttp2Stream, headers: IncomingMessage["headers"]) => void) => {
  const server = createHttp2();
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    serve(stream, headers);
  });
  return await listening(server);
};
const GRPC = { ":status": 200, "content-type": "application/grpc" } as const;

describe("the call to kas", () => {
  it("carries token, user agent and the operator's headers", async () => {
    let seen: IncomingMessage["headers"] = {};
    const port = await http2((stream, headers) => {
      seen = headers;
      stream.respond({ ...GRPC, "grpc-status": "0" }, { endStream: true });
    });
    const headers = [
      ["x-a", "1"],
      ["x-b", "2"],
      ["x-a", "3"],
    ] as const;
    expect(await refusal(dial({ port, headers }))).toBeNull();
    expect(seen).toMatchObject({
      ":path": "/kas.agent.v1.AgentTunnel/Connect",
      ":authority": `127.0.0.1:${port}`,
      ":scheme": "http",
      "content-type": "application/grpc",
      te: "trailers",
      authorization: "Bearer secret",
      "user-agent": "agentk/1.2.3",
      "x-a": "1, 3",
      "x-b": "2",
    });
  });

  it.each([
    [16, "unauthenticated", /does not accept this agent's token \(no – why\): put a valid token/],
    [7, "forbidden", /does not admit this agent: no – why/],
    [12, "protocol", /is no kas that speaks kas.agent.v1/],
    [8, "busy", /takes no more agents now/],
    [14, "node-gone", /failed: no – why/],
  ] as const)("understands status %i, in headers and in trailers", async (code, failure, reason) => {
    const status = { "grpc-status": String(code), "grpc-message": "no %E2%80%93 why" };
    const inHeaders = await http2((stream) => stream.respond({ ...GRPC, ...status }, { endStream: true }));
    const inTrailers = await http2((stream) => {
      stream.respond(GRPC, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers(status));
      stream.end();
    });
    for (const port of [inHeaders, inTrailers]) {
      const why = await refusal(dial({ port }));
      expect(why?.code).toBe(failure);
      expect(why?.reason).toMatch(reason);
    }
  });

  it.each([
    ["a page", { ":status": 200, "content-type": "text/html" }, /HTTP 200 instead of gRPC: --kas-address must be/],
    ["not found", { ":status": 404 }, /HTTP 404 instead of gRPC: --kas-address must be the address of kas'/],
    ["a redirect", { ":status": 301, location: "https://elsewhere/" }, /a redirect to https:\/\/elsewhere\/: --kas-/],
    ["a proxy's 503", { ":status": 503 }, /the proxy before kas does not reach it now/],
  ])("says what to do about %s instead of gRPC", async (_, headers, reason) => {
    const port = await http2((stream) => stream.respond(headers));
    expect((await refusal(dial({ port })))?.reason).toMatch(reason);
  });

  it.each([
    ["resets the call", (stream: ServerHttp2Stream) => stream.close(2)],
    ["ends the connection", (stream: ServerHttp2Stream) => stream.session?.goaway(11)],
    ["closes the socket", (stream: ServerHttp2Stream) => stream.session?.destroy()],
    ["sends what is no message", (stream: ServerHttp2Stream) => void stream.write(Buffer.from([1, 0, 0, 0, 0]))],
    ["ends without a status", (stream: ServerHttp2Stream) => stream.end()],
  ])("counts the node as gone when it %s", async (_, end) => {
    const port = await http2((stream) => {
      stream.respond(GRPC);
      end(stream);
    });
    expect((await refusal(dial({ port })))?.code).toBe("node-gone");
  });

  it("says so when nobody listens, or when it is not HTTP/2", async () => {
    const port = await listening(createHttp());
    expect(await refusal(dial({ port }))).toMatchObject({ code: "node-gone" });
    const closed = createServer();
    const gone = await listening(closed);
    closed.close();
    expect((await refusal(dial({ port: gone })))?.reason).toContain(
      `to kas at 127.0.0.1:${gone} failed: connect ECONN`,
    );
  });

  it("names the flags when the certificate is not accepted, and the schemes when there is no TLS", async () => {
    const { cert, private: key } = await generate([{ name: "commonName", value: "kas.internal" }]);
    const port = await listening(createTls({ cert, key, ALPNProtocols: ["h2", "http/1.1"] }));
    for (const scheme of ["grpcs", "wss"] as const) {
      const why = await refusal(dial({ port, scheme }));
      expect(why?.reason).toMatch(/^the certificate of kas at 127.0.0.1:\d+ is not accepted: .*--kas-ca-cert-file/);
    }
    const onlyGrpc = await listening(createTls({ cert, key, ALPNProtocols: ["h2"] }));
    expect((await refusal(dial({ port: onlyGrpc, scheme: "wss" })))?.reason).toMatch(
      /set agent.listen.websocket on kas/,
    );
    const plain = await listening(createServer((socket) => socket.end("hello")));
    expect((await refusal(dial({ port: plain, scheme: "grpcs" })))?.reason).toMatch(/^no TLS with kas .* or use grpc:/);
  });

  it("gives up after 10 s, and at once when the link does; no socket is left", async () => {
    const clock = new VirtualClock();
    const silent = createServer((socket) => void socket.resume());
    const port = await listening(silent);
    const late = dial({ port, scheme: "grpcs" }, clock);
    const given = dial({ port, scheme: "wss" }, clock);
    const refusals = Promise.all([refusal(late), refusal(given)]);
    await once(silent, "connection");
    given.carrier.end();
    expect(given.refusal()?.reason).toMatch(/no connection was made in time/);
    clock.advance(9_999);
    expect(late.refusal()).toBeNull();
    clock.advance(1);
    const [why] = await refusals;
    expect(why?.reason).toMatch(/no connection to kas at 127.0.0.1:\d+ within 10 s/);
    expect(clock.pending).toBe(0);
  });
});

/** The least of HTTP/2 that ends a call: SETTINGS, and HEADERS with `:status`, `content-type` and `grpc-status: 0`. */
const ENDS_CALL = Buffer.concat([
  Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
  Buffer.from([0, 0, 34, 1, 5, 0, 0, 0, 1, 0x88, 0x5f, 16]),
  Buffer.from("application/grpc"),
  Buffer.from([0x40, 11]),
  Buffer.from("grpc-status"),
  Buffer.from([1, 0x30]),
]);

describe("a socket that kas never closes", () => {
  it("is closed a second after the call", async () => {
    const clock = new VirtualClock();
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      socket.resume();
      socket.once("data", () => socket.write(ENDS_CALL));
    });
    const over = Promise.withResolvers<string>();
    const dialled = dial({ port: await listening(server) }, clock);
    dialled.carrier.onClosed = over.resolve;
    await over.promise;
    clock.advance(999);
    let ended = false;
    const all = dialled.ended.then(() => {
      ended = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(ended).toBe(false);
    clock.advance(1);
    await all;
    expect(dialled.refusal()).toBeNull();
    expect(clock.pending).toBe(0);
  });

  it("is closed at once when the call is destroyed", async () => {
    const clock = new VirtualClock();
    const server = createServer({ allowHalfOpen: true }, (socket) => void socket.resume());
    const dialled = dial({ port: await listening(server) }, clock);
    const [socket] = await once(server, "connection");
    await once(socket, "data");
    dialled.carrier.end();
    dialled.carrier.destroy();
    await dialled.ended;
    expect(dialled.refusal()).toBeNull();
    expect(clock.pending).toBe(0);
  });
});

describe("the WebSocket to kas", () => {
  it("opens at the path, with the operator's headers and without the token, and carries HTTP/2", async () => {
    const kas = createHttp2();
    let call: IncomingMessage["headers"] = {};
    kas.on("stream", (stream, headers) => {
      call = headers;
      stream.respond({ ...GRPC, "grpc-status": "0" }, { endStream: true });
    });
    const server = createHttp();
    const upgrades: IncomingMessage[] = [];
    const sockets = new WebSocketServer({ noServer: true });
    server.on("upgrade", (request, socket, head) => {
      upgrades.push(request);
      sockets.handleUpgrade(request, socket, head, (ws) => kas.emit("connection", websocketStream(ws)));
    });
    const port = await listening(server);
    expect(await refusal(dial({ port, scheme: "ws", path: "/agents/", headers: [["x-a", "1"]] }))).toBeNull();
    expect(upgrades[0]?.url).toBe("/agents/");
    expect(upgrades[0]?.headers).toMatchObject({
      host: `127.0.0.1:${port}`,
      "user-agent": "agentk/1.2.3",
      "x-a": "1",
      "sec-websocket-protocol": "ws-tunnel",
    });
    expect(upgrades[0]?.headers).not.toHaveProperty("authorization");
    expect(upgrades[0]?.headers).not.toHaveProperty("sec-websocket-extensions");
    expect(call.authorization).toBe("Bearer secret");
    expect(call).not.toHaveProperty("x-a");
  });

  it.each<[string, RequestListener, RegExp]>([
    [
      "a redirect",
      (_, res) => res.writeHead(301, { location: "/agents/" }).end(),
      /HTTP 301 instead of opening the WebSocket, a redirect to \/agents\/: --kas-address must be the final address/,
    ],
    ["no such path", (_, res) => res.writeHead(404).end(), /HTTP 404 .*--kas-address must be the address and path/],
    ["a proxy's 502", (_, res) => res.writeHead(502).end(), /HTTP 502 .*the proxy before kas does not reach it/],
  ])("says what to do about %s", async (_, answer, reason) => {
    const port = await listening(createHttp(answer));
    expect((await refusal(dial({ port, scheme: "ws" })))?.reason).toMatch(reason);
  });

  it("is refused by a server that does not know the subprotocol", async () => {
    const server = createHttp();
    const sockets = new WebSocketServer({ noServer: true, handleProtocols: () => false });
    server.on("upgrade", (request, socket, head) => sockets.handleUpgrade(request, socket, head, () => {}));
    const port = await listening(server);
    expect((await refusal(dial({ port, scheme: "ws" })))?.reason).toMatch(/no WebSocket with kas .*subprotocol/);
  });
});

it.each([
  [407, /put user and password into HTTPS_PROXY/],
  [403, /does not connect to kas at kas.example.com:8150: HTTP 403/],
])("says that the proxy refused with %i", async (code, reason) => {
  const proxy = createHttp();
  proxy.on("connect", (_, socket) => void socket.end(`HTTP/1.1 ${code} No\r\nContent-Length: 0\r\n\r\n`));
  const url = `http://127.0.0.1:${await listening(proxy)}`;
  expect((await refusal(dial({ host: "kas.example.com", port: 8150, proxy: url })))?.reason).toMatch(reason);
});
