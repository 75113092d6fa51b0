/** Connections of clients that went away without a word: a gRPC server keeps none of them. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { expect, it } from "vitest";
import { createGrpcServer } from "../../src/grpc/server.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const LIMITS = { maxConcurrentStreams: 1, maxMessageBytes: 1024, maxSessionMiB: 1, maxIdleMs: 20 };
const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);

it("closes a connection without a call, and destroys it when nobody answers that within 5 s", async () => {
  const clock = new VirtualClock();
  const bugs: unknown[] = [];
  await using grpc = createGrpcServer({ methods: new Map(), limits: LIMITS, bug: (error) => bugs.push(error), clock });
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer({ allowHalfOpen: true }, accepted.resolve).listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = connect({ port: (server.address() as AddressInfo).port, allowHalfOpen: true });
  const socket = await accepted.promise;
  grpc.inject(socket);
  client.write(PREFACE);
  client.write(EMPTY_SETTINGS);
  client.resume();

  await once(client, "end");
  expect(socket.destroyed).toBe(false);
  const closed = once(socket, "close");
  clock.advance(5_000);
  await closed;

  expect(bugs).toEqual([]);
  client.destroy();
  server.close();
  await once(server, "close");
});
