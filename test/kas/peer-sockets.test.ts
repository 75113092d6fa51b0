/** Dialling another node over loopback: a carrier, or one failure, and no socket left. */
import { createServer, type Server, type Socket } from "node:net";
import { afterEach, expect, it } from "vitest";
import type { Failure } from "../../actors/failure.ts";
import { dialPeer } from "../../src/kas/peer-sockets.ts";
import type { Carrier } from "../../src/link/link.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const clock = new VirtualClock();
const servers: Server[] = [];
const sockets: Socket[] = [];

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await Promise.all(servers.splice(0).map((server) => new Promise((resolve) => server.close(resolve))));
  expect(clock.pending).toBe(0);
});

async function listening(): Promise<{ address: string; arrived: Promise<Socket> }> {
  const { promise: arrived, resolve } = Promise.withResolvers<Socket>();
  const server = createServer((socket) => {
    sockets.push(socket);
    resolve(socket);
  });
  servers.push(server);
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const address = server.address();
  return { address: `127.0.0.1:${typeof address === "object" ? address?.port : 0}`, arrived };
}

type Dialled = Carrier | Failure;

const dial = (address: string, tls: Parameters<typeof dialPeer>[1] = null) => {
  const { promise, resolve } = Promise.withResolvers<Dialled>();
  const results: Dialled[] = [];
  const dialling = dialPeer(clock, tls)(address, (result) => {
    results.push(result);
    resolve(result);
  });
  return { promise, results, dialling };
};

it("gives a carrier of the socket, whose bytes go both ways", async () => {
  const { address, arrived } = await listening();
  const carrier = await dial(address).promise;
  if ("code" in carrier) throw new RangeError(carrier.reason);
  const socket = await arrived;
  const came = new Promise((resolve) => socket.once("data", (chunk) => resolve(chunk.toString())));
  carrier.write([Buffer.from("a"), Buffer.from("b")], 2, () => {});
  expect(await came).toMatch(/^ab?$/);
  const closed = new Promise((resolve) => {
    carrier.onClosed = resolve;
  });
  carrier.destroy();
  await closed;
});

it("says why nobody answered, once", async () => {
  const { address } = await listening();
  const server = servers.pop();
  await new Promise((resolve) => server?.close(resolve));
  const { promise, results } = dial(address);
  expect(await promise).toMatchObject({ code: "node-gone", reason: expect.stringContaining("ECONNREFUSED") });
  clock.advance(10_000);
  expect(results).toHaveLength(1);
});

it("waits 2 s for TLS from a node that says nothing", async () => {
  const { address, arrived } = await listening();
  const { promise, results } = dial(address, {});
  const gone = new Promise((resolve) => void arrived.then((socket) => socket.resume().once("close", resolve)));
  await arrived;
  clock.advance(1_999);
  expect(results).toEqual([]);
  clock.advance(1);
  expect(await promise).toMatchObject({ code: "node-gone" });
  await gone;
});

it("calls nobody back and leaves no socket when it is given up", async () => {
  const { address, arrived } = await listening();
  const { results, dialling } = dial(address, {});
  const socket = await arrived;
  const gone = new Promise((resolve) => socket.resume().once("close", resolve));
  dialling[Symbol.dispose]();
  await gone;
  expect(results).toEqual([]);
});
