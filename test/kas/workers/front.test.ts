/** The front of several workers: probes that speak for all, one page of metrics, and operators' requests passed on. */
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import { connect } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { parseKasConfig } from "../../../src/config/kas.ts";
import { createFront, type Fronted, readinessOf } from "../../../src/kas/workers/front.ts";
import { CALLER_ADDRESS } from "../../../src/kas/workers/message.ts";
import { listen } from "../../../src/net/listener.ts";

const READY = { ready: true, phase: "ready", reason: "" };
const JOINING = { ready: false, phase: "joining", reason: "joining the cluster" };
const sources = { file: "kas.yaml", env: {}, hostname: "kas-0", interfaces: [], readFile: () => "" };
const { observability: config } = parseKasConfig("", sources).config;
const log = { debug() {}, info() {}, warn() {}, error() {}, child: () => log };

const fronted = (index: number, more: Partial<Fronted> = {}): Fronted => ({
  index,
  readiness: READY,
  takesSockets: true,
  alive: true,
  observability: null,
  ...more,
});
const ending = () => false;

let owned = new AsyncDisposableStack();
afterEach(async () => {
  await owned.disposeAsync();
  owned = new AsyncDisposableStack();
});

/** A worker's own listener: `answer` says what it answers with. */
async function worker(index: number, answer: (req: IncomingMessage) => string, more: Partial<Fronted> = {}) {
  const server = createServer((req, res) => {
    const text = answer(req);
    res.writeHead(text.startsWith("no") ? 403 : 200, { "content-type": "application/json", "x-worker": String(index) });
    res.end(text);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  owned.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  const observability = address && typeof address === "object" ? `127.0.0.1:${address.port}` : null;
  return fronted(index, { observability, ...more });
}

async function front(workers: readonly Fronted[], isEnding = ending): Promise<string> {
  const registry = { contentType: "text/plain", metrics: async () => 'own{worker="supervisor"} 1\n' };
  const made = owned.use(createFront({ config, workers, registry, alive: () => true, ending: isEnding, log }));
  const onSocket = (socket: Parameters<typeof made.onSocket>[0]) => made.onSocket(socket);
  const listener = owned.use(await listen({ address: "127.0.0.1:0", onSocket }));
  return `http://${listener.address}`;
}

describe("the readiness of several workers", () => {
  it("is that of all that take sockets: the kernel hands callers to any of them", () => {
    expect(readinessOf({ workers: [fronted(0), fronted(1)], ending })).toEqual(READY);
    const workers = [fronted(0), fronted(1, { readiness: JOINING })];
    const reason = "worker 1: joining the cluster";
    expect(readinessOf({ workers, ending })).toEqual({ ready: false, phase: "joining", reason });
  });

  it("does without one that is being started again, but not without all", () => {
    const away = fronted(1, { takesSockets: false, readiness: JOINING });
    expect(readinessOf({ workers: [fronted(0), away], ending })).toEqual({ ...READY, reason: "without worker 1" });
    expect(readinessOf({ workers: [{ ...away, index: 0 }, away], ending })).toMatchObject({ ready: false });
  });

  it("is over from the first moment of the end", async () => {
    const url = await front([fronted(0)], () => true);
    const { status, headers } = await fetch(`${url}/readiness`);
    expect([status, headers.get("content-type")]).toEqual([503, "application/json"]);
  });
});

describe("the listener of several workers", () => {
  it("is alive while all are", async () => {
    expect((await fetch(`${await front([fronted(0), fronted(1)])}/liveness`)).status).toBe(200);
    expect((await fetch(`${await front([fronted(0), fronted(1, { alive: false })])}/liveness`)).status).toBe(503);
  });

  it("has the metrics of all on one page, without those that do not answer", async () => {
    const counting = await worker(0, ({ url }) => `a{path="${url}"} 1\n`);
    const broken = await worker(1, () => "no");
    const text = await (await fetch(`${await front([counting, broken, fronted(2)])}/metrics`)).text();
    expect(text).toBe('own{worker="supervisor"} 1\na{worker="0",path="/metrics"} 1\n');
  });

  it("passes a read to a worker that is ready, with the address of the caller and nobody's own word for it", async () => {
    const seen: IncomingMessage[] = [];
    const starting = await worker(0, () => "0", { readiness: JOINING });
    const ready = await worker(1, (req) => {
      seen.push(req);
      return "1";
    });
    const headers = { authorization: "Bearer t", [CALLER_ADDRESS]: "127.0.0.1, spoofed" };
    const answer = await fetch(`${await front([starting, ready])}/api/v1/nodes?x=1`, { headers });
    expect([answer.status, answer.headers.get("x-worker"), await answer.text()]).toEqual([200, "1", "1"]);
    expect(seen[0]?.url).toBe("/api/v1/nodes?x=1");
    expect(seen[0]?.headers).toMatchObject({ authorization: "Bearer t", [CALLER_ADDRESS]: "127.0.0.1" });
  });

  it("makes a change at all workers and answers for all", async () => {
    const change = (node: string, disconnected: number) => (req: IncomingMessage) =>
      JSON.stringify({ node, disconnected, method: req.method });
    const url = await front([await worker(0, change("w0", 0)), await worker(1, change("w1", 2))]);
    const answer = await fetch(`${url}/api/v1/disconnect/7`, { method: "POST" });
    expect(await answer.json()).toMatchObject({
      node: "w0",
      disconnected: 2,
      workers: [
        { node: "w0", disconnected: 0, method: "POST" },
        { node: "w1", disconnected: 2, method: "POST" },
      ],
    });
  });

  it("answers a change with the refusal of any worker", async () => {
    const url = await front([await worker(0, () => "{}"), await worker(1, () => "not you")]);
    const answer = await fetch(`${url}/api/v1/drain`, { method: "POST" });
    expect([answer.status, await answer.text()]).toEqual([403, "not you\n"]);
  });

  it("says so when no worker can answer", async () => {
    const gone = fronted(0, { observability: "127.0.0.1:1" });
    for (const method of ["GET", "POST"]) {
      const answer = await fetch(`${await front([gone])}/api/v1/nodes`, { method });
      expect([answer.status, await answer.json()]).toMatchObject([503, { code: "cluster-unavailable" }]);
    }
    expect((await fetch(`${await front([fronted(0)])}/`)).status).toBe(503);
  });

  it("drops what it asked of a worker when the caller goes", async () => {
    const { promise: closed, resolve } = Promise.withResolvers<void>();
    const { promise: asked, resolve: ask } = Promise.withResolvers<void>();
    const server = createServer((req) => {
      req.socket.once("close", () => resolve());
      ask();
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    owned.defer(() => void server.close());
    const address = server.address();
    const port = address && typeof address === "object" ? address.port : 0;
    const url = new URL(await front([fronted(0, { observability: `127.0.0.1:${port}` })]));
    const caller = connect(Number(url.port), url.hostname);
    caller.write("GET /api/v1/nodes HTTP/1.1\r\nhost: x\r\n\r\n");
    await asked;
    caller.destroy();
    await closed;
  });
});
