/** The end of a peer link's socket, as a listener hands it on: one that may be half-open. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { expect, it } from "vitest";
import { socketCarrier } from "../../src/link/carriers/socket.ts";

it("is over for both as soon as one end was closed, also where a socket may be half-open", async () => {
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer({ allowHalfOpen: true }, accepted.resolve).listen(0, "127.0.0.1");
  await once(server, "listening");
  const dialled = connect((server.address() as AddressInfo).port, "127.0.0.1");
  const carriers = [socketCarrier(dialled), socketCarrier(await accepted.promise)];
  const closed = carriers.map((carrier) => new Promise((resolve) => Object.assign(carrier, { onClosed: resolve })));

  carriers[0]?.end();

  expect(await Promise.all(closed)).toEqual(["the socket was closed", "the socket was closed"]);
  server.close();
  await once(server, "close");
});
