/** `Gateway.Stream` resets what runs for a caller at once when it leaves, in whatever way. */
import { type ClientHttp2Stream, connect as connectHttp2, constants } from "node:http2";
import { connect, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { startRails, type TestRails, TOKEN, until } from "./rails.ts";
import { data, endQuiet, head, KiB, message, PATH, type Part } from "./stream-parts.ts";

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
  afterEach(() => endQuiet(rails));

  async function dial(): Promise<Caller> {
    const socket = connect(Number(rails.address.split(":")[1]), "127.0.0.1");
    const session = connectHttp2(`http://${rails.address}`, { createConnection: () => socket });
    for (const each of [socket, session]) each.on("error", () => {});
    const headers = { "content-type": "application/grpc", te: "trailers", authorization: `bearer ${TOKEN}` };
    const call = session.request({ ":method": "POST", ":path": PATH, ...headers });
    call.on("error", () => {});
    return { socket, call };
  }

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
});
