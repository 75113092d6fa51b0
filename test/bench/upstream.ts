/**
 * The service behind the agent, in a process of its own: 1 KiB for `/`, `?n=` bytes for `/bytes`, uploads counted, and
 * `/hold?count=` answers nobody before that many are being asked for at once.
 */
import { createServer, type ServerResponse } from "node:http";

const KIB = Buffer.alloc(1024, "a");
const BLOCK = Buffer.alloc(64 * 1024, "kas!");
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
  else response.writeHead(200, { "content-type": "text/plain", "content-length": KIB.length }).end(KIB);
});
server.keepAliveTimeout = 120_000;
server.listen({ port: 0, host: "127.0.0.1", backlog: 1024 }, () => {
  const address = server.address();
  const port = address && typeof address === "object" ? address.port : 0;
  process.stdout.write(`${JSON.stringify({ msg: "listening", address: `127.0.0.1:${port}` })}\n`);
});
process.on("SIGTERM", () => process.exit(0));
