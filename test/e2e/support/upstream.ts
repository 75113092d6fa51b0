/**
 * The service behind the agents, in the test's own process: it counts how often each request ran (by `?id=`), streams as fast
 * as it is read, streams slowly, stalls, hashes uploads and echoes upgraded bytes. It knows who is still being served, and its
 * answers say in `x-upstream` whose service they came from.
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { Socket } from "node:net";
import { type Duplex, Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";

const BLOCK = Buffer.alloc(64 * 1024, "kas!");

/** What `?n=` of these bytes hash to. */
export function hashOf(bytes: number): string {
  const hash = createHash("sha256");
  for (const block of blocks(bytes)) hash.update(block);
  return hash.digest("hex");
}

function* blocks(bytes: number): Generator<Buffer> {
  for (let left = bytes; left > 0; left -= BLOCK.length) yield left < BLOCK.length ? BLOCK.subarray(0, left) : BLOCK;
}

type Handler = (url: URL, request: IncomingMessage, response: ServerResponse) => void | Promise<void>;

export class Upstream implements AsyncDisposable {
  /** How often each `?id=` was executed. */
  readonly executions = new Map<string, number>();
  /** When each chunk of each `/slow?id=` was written. */
  readonly written = new Map<string, number[]>();
  readonly name: string;
  readonly #server: Server;
  readonly #held = new Map<string, ServerResponse>();
  #active = 0;
  readonly #handlers: Readonly<Record<string, Handler>> = {
    "/hello": (_url, _request, response) => void response.end("hello"),
    "/headers": (_url, request, response) => void response.end(JSON.stringify(request.headers)),
    "/bytes": (url, _request, response) => this.#bytes(url, response),
    "/slow": (url, _request, response) => this.#slow(url, response),
    "/watch": (url, _request, response) => this.#watch(url, response),
    "/stall": (_url, _request, response) => void response.writeHead(200).flushHeaders(),
    "/count": (_url, _request, response) => void response.end("counted"),
    "/answer": (url, request, response) => this.#answer(url, request, response),
    "/hold": (url, _request, response) => void this.#held.set(url.searchParams.get("id") ?? "", response),
    "/upload": (_url, request, response) => this.#upload(request, response),
  };

  private constructor(name: string) {
    this.name = name;
    this.#server = createServer((request, response) => void this.#serve(request, response));
    this.#server.keepAliveTimeout = 60_000;
    this.#server.on("upgrade", (request, socket, head) => this.#echo(request, socket, head));
  }

  static async listen(name = ""): Promise<Upstream> {
    const upstream = new Upstream(name);
    upstream.#server.listen(0, "127.0.0.1");
    await once(upstream.#server, "listening");
    return upstream;
  }

  get url(): string {
    const address = this.#server.address();
    return address && typeof address === "object" ? `http://127.0.0.1:${address.port}` : "";
  }

  /** Requests and upgraded sockets being served. */
  get active(): number {
    return this.#active;
  }

  /** Ids that were executed more than once. */
  twice(): readonly string[] {
    return [...this.executions].filter(([, count]) => count > 1).map(([id]) => id);
  }

  holds(id: string): boolean {
    return this.#held.has(id);
  }

  release(id: string): void {
    this.#held.get(id)?.end("released");
    this.#held.delete(id);
  }

  #begin(end: (ended: () => void) => void): void {
    this.#active += 1;
    end(() => {
      this.#active -= 1;
    });
  }

  #count(url: URL): void {
    const id = url.searchParams.get("id");
    if (id !== null) this.executions.set(id, (this.executions.get(id) ?? 0) + 1);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.#begin((ended) => response.once("close", ended));
    const url = new URL(request.url ?? "/", "http://upstream");
    this.#count(url);
    if (this.name) response.setHeader("x-upstream", this.name);
    const handler = this.#handlers[url.pathname];
    if (!handler) {
      response.writeHead(404).end("no such path here");
      return;
    }
    try {
      await handler(url, request, response);
    } catch {
      response.destroy();
    }
  }

  async #bytes(url: URL, response: ServerResponse): Promise<void> {
    const bytes = Number(url.searchParams.get("n") ?? 1024);
    response.writeHead(200, { "content-length": String(bytes) });
    await pipeline(Readable.from(blocks(bytes)), response);
  }

  async #slow(url: URL, response: ServerResponse): Promise<void> {
    const chunks = Number(url.searchParams.get("chunks") ?? 5);
    const times: number[] = [];
    this.written.set(url.searchParams.get("id") ?? "", times);
    for (let chunk = 0; chunk < chunks && !response.destroyed; chunk++) {
      if (chunk > 0) await sleep(Number(url.searchParams.get("ms") ?? 200));
      times.push(performance.now());
      response.write(`chunk ${chunk}\n`);
    }
    response.end();
  }

  /** Without a length: pieces that each name the request, `ms` apart, then an end that shows whether all of it arrived. */
  async #answer(url: URL, request: IncomingMessage, response: ServerResponse): Promise<void> {
    request.resume();
    const id = url.searchParams.get("id") ?? "";
    for (let left = Number(url.searchParams.get("pieces") ?? 1); left > 0 && !response.destroyed; left--) {
      response.write(`piece ${id}\n`);
      const pause = Number(url.searchParams.get("ms") ?? 0);
      if (pause > 0) await sleep(pause);
    }
    response.end(`end ${id}\n`);
  }

  /** A list, then a line a second until the caller goes. */
  async #watch(url: URL, response: ServerResponse): Promise<void> {
    response.writeHead(200);
    for (const block of blocks(Number(url.searchParams.get("n") ?? 0))) {
      if (!response.write(block)) await once(response, "drain");
    }
    const timer = setInterval(() => response.write("event\n"), 1_000);
    response.once("close", () => clearInterval(timer));
  }

  async #upload(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const hash = createHash("sha256");
    let bytes = 0;
    for await (const chunk of request as AsyncIterable<Buffer>) {
      hash.update(chunk);
      bytes += chunk.length;
    }
    response.end(JSON.stringify({ sha256: hash.digest("hex"), bytes }));
  }

  #echo(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const url = new URL(request.url ?? "/", "http://upstream");
    this.#count(url);
    this.#begin((ended) => socket.once("close", ended));
    socket.on("error", () => socket.destroy());
    const refusal = url.searchParams.get("refuse");
    if (refusal !== null) {
      const body = `no upgrade: ${refusal}`;
      socket.end(`HTTP/1.1 ${refusal} No\r\nX-Why: upstream\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
      return;
    }
    if (url.searchParams.has("half")) {
      socket.write("HTTP/1.1 101 Switching Prot", () => socket.destroy());
      return;
    }
    socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    if (head.length > 0) socket.write(head);
    const flood = url.searchParams.get("n");
    if (flood !== null) {
      pipeline(Readable.from(blocks(Number(flood))), socket).catch(() => socket.destroy());
      return;
    }
    const end = url.searchParams.get("end");
    if (end !== null) socket.once("data", () => (end === "reset" ? reset(socket) : socket.end("last words")));
    else socket.pipe(socket);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}

function reset(socket: Duplex): void {
  if (socket instanceof Socket) socket.resetAndDestroy();
  else socket.destroy();
}
