/**
 * The service behind the agent, in a process of its own: 1 KiB for `/`, `?n=` bytes for `/bytes`, uploads counted, upgraded
 * bytes echoed. `/hold?count=` answers nobody before that many are being asked for at once; every watcher of `/watch?every=`
 * gets an event each so many milliseconds, 1 KiB that begins with the time in microseconds.
 */
import { createServer, type ServerResponse } from "node:http";

const KIB = Buffer.alloc(1024, "a");
const BLOCK = Buffer.alloc(64 * 1024, "kas!");
const EVENT = 1024;
let held: ServerResponse[] = [];

function sendBytes(response: ServerResponse, bytes: number): void {
  response.writeHead(200, { "content-length": bytes });
  let left = bytes;
  const more = (): void => {
    while (left > 0) {
      const piece = left < BLOCK.length ? BLOCK.subarray(0, left) : BLOCK;
      left -= piece.length;
      if (!response.write(piece)) {
        response.once("drain", more);
        return;
      }
    }
    response.end();
  };
  more();
}

function hold(response: ServerResponse, count: number): void {
  held.push(response);
  if (held.length < count) return;
  for (const one of held) one.end("held");
  held = [];
}

const watchers = new Set<ServerResponse>();
let ticking = false;

function tell(): void {
  const event = `${process.hrtime.bigint() / 1000n}`.padEnd(EVENT - 1, ".");
  for (const watcher of watchers) watcher.write(`${event}\n`);
}

function watch(response: ServerResponse, every: number): void {
  response.writeHead(200).flushHeaders();
  watchers.add(response);
  response.on("close", () => watchers.delete(response));
  if (!ticking) setInterval(tell, every);
  ticking = true;
}

const server = createServer((request, response) => {
  const url = request.url ?? "/";
  if (request.method !== "GET") {
    let bytes = 0;
    request.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    request.on("end", () => response.end(String(bytes)));
  } else if (url.startsWith("/bytes?n=")) sendBytes(response, Number(url.slice(9)));
  else if (url.startsWith("/hold?count=")) hold(response, Number(url.slice(12)));
  else if (url.startsWith("/watch?every=")) watch(response, Number(url.slice(13)));
  else response.writeHead(200, { "content-type": "text/plain", "content-length": KIB.length }).end(KIB);
});
server.on("upgrade", (_request, socket) => {
  socket.on("error", () => socket.destroy());
  socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
  socket.pipe(socket);
});
server.keepAliveTimeout = 120_000;
server.listen({ port: 0, host: "127.0.0.1", backlog: 1024 }, () => {
  const address = server.address();
  const port = address && typeof address === "object" ? address.port : 0;
  process.stdout.write(`${JSON.stringify({ msg: "listening", address: `127.0.0.1:${port}` })}\n`);
});
process.on("SIGTERM", () => process.exit(0));
