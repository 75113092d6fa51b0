/** Both ends of a listener's real sockets: clients that keep what they see, and a server that greets and echoes. */
import { connect, type Socket } from "node:net";
import { type TLSSocket, connect as tlsConnect } from "node:tls";
import { expect } from "vitest";
import { Failed } from "../../src/failed.ts";
import type { Listener } from "../../src/net/listener.ts";

export const greet = (socket: Socket) => {
  socket.on("end", () => socket.end());
  socket.on("data", (chunk) => socket.write(`echo ${chunk}`));
  socket.write("hello");
};

export const portOf = ({ address }: Listener): number => Number(address.slice(address.lastIndexOf(":") + 1));

export function dial(listener: Listener): Socket & { seen?: string } {
  const socket: Socket & { seen?: string } = connect({
    port: portOf(listener),
    host: "127.0.0.1",
    allowHalfOpen: true,
  });
  keep(socket);
  return socket;
}

export function dialTls(listener: Listener, options: object = {}): TLSSocket & { seen?: string } {
  const socket: TLSSocket & { seen?: string } = tlsConnect({
    port: portOf(listener),
    host: "127.0.0.1",
    rejectUnauthorized: false,
    ...options,
  });
  keep(socket);
  return socket;
}

function keep(socket: Socket & { seen?: string }): void {
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    socket.seen = (socket.seen ?? "") + String(chunk);
  });
}

export const reasonOf = async (listening: Promise<Listener>): Promise<string> => {
  try {
    await using _unexpected = await listening;
  } catch (error) {
    if (error instanceof Failed) return error.failure.reason;
    throw error;
  }
  return expect.fail("it listens");
};
