/** The agent listener's sockets on loopback: what becomes of each first byte, and that none stays undecided. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { AgentSockets, type AgentSocketsOptions } from "../../src/kas/agent-sockets.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

/** Stands for a gRPC server: keeps what it is given and answers each byte with itself. */
class Taken {
  readonly streams: Duplex[] = [];
  read = "";
  #changed = Promise.withResolvers<void>();

  inject(stream: Duplex): void {
    this.streams.push(stream);
    stream.on("data", (chunk: Buffer) => {
      this.read += chunk.toString("latin1");
      stream.write(chunk);
      this.#tell();
    });
    stream.on("close", () => this.#tell());
    this.#tell();
  }

  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await this.#changed.promise;
  }

  #tell(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

describe("sockets of agents", () => {
  let clock: VirtualClock;
  let grpc: Taken;
  let inWebsockets: Taken;
  let sockets: AgentSockets;
  let server: Server;
  let accepted: Socket[];
  let alpn = "";

  beforeEach(async () => {
    [clock, grpc, inWebsockets, accepted, alpn] = [new VirtualClock(), new Taken(), new Taken(), [], ""];
    serving({});
    server = createServer({ allowHalfOpen: true }, (socket) => {
      accepted.push(socket);
      socket.on("error", () => {});
      sockets.onSocket(socket, alpn);
      server.emit("handed-on");
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
  });
  afterEach(async () => {
    await sockets[Symbol.asyncDispose]();
    const open = accepted.filter(({ closed }) => !closed);
    for (const socket of open) socket.destroy();
    server.close();
    await once(server, "close");
    expect([sockets.undecided, sockets.websockets, clock.pending]).toEqual([0, 0, 0]);
  });

  const serving = (more: Partial<AgentSocketsOptions>) => {
    sockets = new AgentSockets({ clock, grpc, websocket: inWebsockets, ...more });
  };
  const port = () => (server.address() as AddressInfo).port;
  const dial = async (): Promise<Socket> => {
    const [socket] = await Promise.all([connected(), once(server, "handed-on")]);
    return socket;
  };
  const connected = async (): Promise<Socket> => {
    const socket = connect({ port: port(), host: "127.0.0.1" });
    socket.on("error", () => {});
    await once(socket, "connect");
    return socket;
  };
  const websocket = (protocols: string[] = ["ws-tunnel"]) =>
    new WebSocket(`ws://127.0.0.1:${port()}/-/kubernetes-agent/`, protocols, { perMessageDeflate: false });
  const said = async (socket: Socket): Promise<string> => {
    let text = "";
    socket.on("data", (chunk) => {
      text += chunk;
    });
    await new Promise((resolve) => socket.once("close", resolve));
    return text;
  };

  it("takes HTTP/2 for gRPC, with every byte it had read, however they come", async () => {
    const socket = await dial();
    socket.write("PR");
    const [server] = accepted;
    if (server) await once(server, "readable");
    expect(sockets.undecided).toBe(1);
    socket.write("I * HTTP/2.0\r\n\r\nSM\r\n\r\nmore");
    await grpc.until(() => grpc.read.endsWith("more"));
    expect(grpc.read).toBe("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore");
    expect(sockets.undecided).toBe(0);
    socket.destroy();
  });

  it("takes a WebSocket of ws-tunnel as bytes both ways, those that come with the handshake included", async () => {
    const ws = websocket();
    await once(ws, "open");
    expect(ws.protocol).toBe("ws-tunnel");
    expect(ws.extensions).toBe("");
    ws.send(Buffer.from("ab"));
    const [echo] = await once(ws, "message");
    expect(String(echo)).toBe("ab");
    expect([sockets.undecided, sockets.websockets, grpc.streams.length]).toEqual([0, 1, 0]);

    const socket = await dial();
    const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    const upgrade = "GET / HTTP/1.1\r\nHost: kas\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    const frame = Buffer.from([0x82, 0x82, 0, 0, 0, 0, 0x63, 0x64]);
    socket.write(Buffer.concat([Buffer.from(`${upgrade}${key}Sec-WebSocket-Protocol: ws-tunnel\r\n\r\n`), frame]));
    await inWebsockets.until(() => inWebsockets.read === "abcd");
    socket.destroy();
    ws.close();
    await once(ws, "close");
    await inWebsockets.until(() => inWebsockets.streams.every(({ closed }) => closed));
  });

  it("tells a WebSocket without ws-tunnel that this is a protocol error", async () => {
    const ws = websocket([]);
    const [code, reason] = await once(ws, "close");
    expect([code, String(reason)]).toEqual([1002, "the subprotocol must be ws-tunnel"]);
    expect(inWebsockets.streams).toEqual([]);
  });

  it.each([
    ["a request", "GET / HTTP/1.1\r\nHost: kas\r\n\r\n"],
    ["an upgrade to something else", "GET / HTTP/1.1\r\nHost: kas\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"],
  ])("answers %s over HTTP/1.1 with what it takes here, and ends", async (_, request) => {
    const socket = await dial();
    socket.write(request);
    const answer = await said(socket);
    expect(answer).toMatch(/^HTTP\/1\.1 426 /);
    expect(answer).toMatch(/upgrade: websocket/i);
    expect(answer).toMatch(/gRPC over HTTP\/2 or with a WebSocket of subprotocol ws-tunnel/);
  });

  it("decides by ALPN where there is one", async () => {
    alpn = "h2";
    const socket = await dial();
    expect([grpc.streams.length, sockets.undecided]).toEqual([1, 0]);
    socket.destroy();
    alpn = "http/1.1";
    const ws = websocket();
    await once(ws, "open");
    expect(inWebsockets.streams).toHaveLength(1);
    ws.terminate();
  });

  it.each([
    ["nothing", ""],
    ["half a preface", "PR"],
    ["half a request", "GET / HTTP/1.1\r\nHost: k"],
  ])("closes a socket that says %s for 10 s", async (_, bytes) => {
    const socket = await dial();
    if (bytes) socket.write(bytes);
    clock.advance(9_999);
    expect(sockets.undecided).toBe(1);
    clock.advance(1);
    expect(await said(socket)).toBe("");
  });

  it("closes a socket that ends before it said what it is", async () => {
    const socket = await dial();
    socket.end("PR");
    expect(await said(socket)).toBe("");
  });

  it("closes the oldest of too many that have not said what they are", async () => {
    serving({ maxUndecided: 2 });
    const [first, second, third] = [await dial(), await dial(), await dial()];
    expect(await said(first)).toBe("");
    expect([second?.destroyed, third?.destroyed, sockets.undecided]).toEqual([false, false, 2]);
  });

  it("gives every socket to gRPC where WebSockets are off", async () => {
    serving({ websocket: null });
    expect(sockets.alpnProtocols).toEqual(["h2"]);
    const socket = await dial();
    socket.write("GET");
    await grpc.until(() => grpc.read === "GET");
    expect(sockets.undecided).toBe(0);
    socket.destroy();
  });

  it("says to every WebSocket that the node goes away, and ends one that does not answer", async () => {
    const [polite, deaf] = [websocket(), websocket()];
    await Promise.all([once(polite, "open"), once(deaf, "open")]);
    deaf.pause();
    const closed = once(polite, "close");
    const disposed = sockets[Symbol.asyncDispose]();
    expect((await closed)[0]).toBe(1001);
    clock.advance(1_000);
    await disposed;
    deaf.terminate();
  });

  it("holds a writer back while the other side does not read", async () => {
    const ws = websocket();
    await once(ws, "open");
    const [stream] = inWebsockets.streams;
    ws.pause();
    let taken = 0;
    const fill = () => {
      while (stream?.write(Buffer.alloc(64 * 1024), () => taken++) && taken < 10_000);
    };
    fill();
    stream?.on("drain", fill);
    await quiet(() => taken);
    expect(taken).toBeLessThan(1_000);
    const before = taken;
    ws.resume();
    await inWebsocketsDrains(() => taken > before);
    ws.terminate();
  });
});

/** Waits until a number stands still: the kernel's buffers are full. */
async function quiet(value: () => number): Promise<void> {
  for (let last = -1; last !== value(); ) {
    last = value();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const inWebsocketsDrains = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 1));
};
