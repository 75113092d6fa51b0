import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ServerCredentials } from "@grpc/grpc-js";
import { generate } from "selfsigned";
import { afterEach, beforeEach, expect, it } from "vitest";
import { stringify } from "yaml";
import type { Executor } from "../../src/agentk/executor.ts";
import { startAgentk } from "../../src/agentk/start.ts";
import { type AgentkFlags, type Env, parseAgentkConfig } from "../../src/config/agentk.ts";
import { failed } from "../../src/failed.ts";
import { encodeOpen, type Open } from "../../src/link/messages.ts";
import type { Stream, StreamHandler } from "../../src/link/stream.ts";
import { apiServer } from "./api-server.ts";
import { Caller } from "./caller.ts";
import { type GrpcKas, grpcKas } from "./grpc-kas.ts";

let stack = new AsyncDisposableStack();
let folder = "";
beforeEach(() => {
  stack = new AsyncDisposableStack();
  folder = mkdtempSync(join(tmpdir(), "agentk-"));
  stack.defer(() => rmSync(folder, { recursive: true }));
});
afterEach(() => stack.disposeAsync());

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const kubeconfig = (server: string) =>
  file(
    `kubeconfig-${new URL(server).port}`,
    stringify({
      "current-context": "c",
      clusters: [{ name: "c", cluster: { server } }],
      contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
      users: [{ name: "u", user: { token: "k8s" } }],
    }),
  );

async function agent(kas: GrpcKas, flags: AgentkFlags = {}, env: Env = {}) {
  const lines: string[] = [];
  const config = parseAgentkConfig(
    {
      kasAddress: `grpc://127.0.0.1:${kas.port}`,
      tokenFile: flags.tokenFile ?? file("token", "good\n"),
      kubeconfig: kubeconfig("http://127.0.0.1:9"),
      logLevel: "error",
      ...flags,
    },
    { AGENTK_BACKOFF_INITIAL: "1ms", AGENTK_BACKOFF_MAX: "20ms", ...env },
  );
  const running = await startAgentk({ config, env, stdout: (line) => lines.push(line) });
  stack.defer(() => running.stop());
  return { running, lines };
}

/** Carries a caller's stream over the agent's latest link: what comes on one side goes out on the other, credit too. */
const over =
  (kas: GrpcKas): Executor =>
  (open, near) => {
    const link = kas.links.at(-1)?.link;
    if (!link) throw failed("agent-offline", "no link");
    const towards = (to: Stream): StreamHandler => ({
      accepted: () => to.accept(),
      head: (payload) => to.head(payload),
      data: (bytes) => to.data(bytes),
      trailer: (payload) => to.trailer(payload),
      end: () => to.end(),
      stopped: () => to.stop(),
      reset: (reset) => to.reset(reset),
      sent: (bytes) => to.consumed(bytes),
      closed() {},
    });
    return towards(link.open(encodeOpen(open), towards(near), 1));
  };

const call = (kas: GrpcKas, open: Partial<Open>, body?: Uint8Array): Caller => {
  const caller = new Caller(over(kas), open, { end: false });
  if (body) caller.stream.data(body);
  caller.stream.end();
  return caller;
};

it("connects with its token and user agent, prints so, and serves the API server, services and its own methods", async () => {
  const kas = stack.use(await grpcKas());
  const api = stack.use(
    await apiServer((request, response) => {
      const hash = createHash("sha256");
      request.on("data", (chunk) => hash.update(chunk));
      request.on("end", () => response.end(`${request.url} ${request.headers.authorization} ${hash.digest("hex")}`));
    }),
  );
  const flags = { kubeconfig: kubeconfig(api.url), service: [`web=${api.url}/base`] };
  const { lines } = await agent(kas, flags, { AGENTK_ENABLE_ECHO: "true", POD_NAME: "p" });
  await kas.until(({ links }) => links[0]?.agent !== null && links.length === 1);
  expect(kas.links[0]?.metadata.get("user-agent")[0]).toMatch(/^agentk\/\d+\.\d+\.\d+/);
  expect(kas.links[0]?.agent?.instance).toBe("default/p");

  const body = randomBytes(3_000_000);
  const put = await call(kas, { method: "PUT", path: "/x" }, body).done();
  expect(put.text).toBe(`/x Bearer k8s ${createHash("sha256").update(body).digest("hex")}`);

  const service = await call(kas, { target: { type: "service", name: "web" }, path: "/y" }).done();
  expect(service.text).toContain("/base/y undefined");

  const echo = await call(kas, { kind: "grpc", method: "/kas.agent.v1.Echo/Echo" }, body).done();
  expect(Buffer.concat(echo.chunks).equals(body)).toBe(true);
  expect(lines).toEqual(['{"msg":"connected","agent_id":1,"node":"kas-0"}']);
});

/** Answers its last bytes only when told to. */
async function slowApi() {
  let finish = () => {};
  const api = stack.use(
    await apiServer((_, response) => {
      response.write("first ");
      finish = () => response.end("last");
    }),
  );
  return { api, finish: () => finish() };
}

it("finishes what runs before it ends, its last bytes included", async () => {
  const kas = stack.use(await grpcKas());
  const { api, finish } = await slowApi();
  const { running } = await agent(kas, { kubeconfig: kubeconfig(api.url) });
  await kas.until(({ links }) => links[0]?.agent != null);
  const caller = call(kas, {});
  await caller.until((c) => c.text === "first ");
  const drained = running.drain();
  finish();
  await drained;
  await caller.done();
  expect([caller.text, caller.ended]).toEqual(["first last", true]);
  await kas.until(({ links }) => links[0]?.closed === true);
});

it("is ready while kas can reach it, and counts what it executed by closed lists of labels", async () => {
  const kas = stack.use(await grpcKas());
  const api = stack.use(await apiServer((_, response) => response.writeHead(404).end()));
  const observability = `127.0.0.1:${await freePort()}`;
  const flags = { kubeconfig: kubeconfig(api.url), observabilityListenAddress: observability };
  file("token", "wrong");
  await agent(kas, { ...flags, tokenFile: join(folder, "token") });
  const get = async (path: string) => {
    const response = await fetch(`http://${observability}${path}`);
    return { status: response.status, text: await response.text() };
  };
  expect(await get("/readiness")).toMatchObject({ status: 503 });
  expect(await get("/liveness")).toMatchObject({ status: 200 });
  file("token", "good");
  await kas.until(({ links }) => links[0]?.agent != null);
  await call(kas, { path: "/secret/path" }).done();
  expect(await get("/readiness")).toMatchObject({ status: 200 });
  const { text } = await get("/metrics");
  expect(text).toContain('agentk_upstream_requests_total{code="4xx"} 1');
  expect(text).toContain("agentk_kas_connected 1");
  expect(text).toMatch(/agentk_reconnects_total [1-9]/);
  expect(text).not.toContain("secret");
});

it("reads its token again before each attempt", async () => {
  const kas = stack.use(await grpcKas(undefined, "rotated"));
  await agent(kas);
  file("token", "rotated");
  await kas.until(({ links }) => links[0]?.agent != null);
});

it("connects over TLS with an authority of its own and another name, and not without", async () => {
  const { cert, private: key } = await generate([{ name: "commonName", value: "kas.internal" }], {
    keySize: 2048,
    extensions: [{ name: "subjectAltName", altNames: [{ type: 2, value: "kas.internal" }] }],
  });
  const credentials = ServerCredentials.createSsl(null, [
    { cert_chain: Buffer.from(cert), private_key: Buffer.from(key) },
  ]);
  const kas = stack.use(await grpcKas(credentials));
  const kasAddress = `grpcs://127.0.0.1:${kas.port}`;
  const stranger = await agent(kas, { kasAddress, kasTlsServerName: "kas.internal" });
  await agent(kas, { kasAddress, kasTlsServerName: "kas.internal", kasCaCertFile: file("ca", cert) });
  await kas.until(({ links }) => links[0]?.agent != null);
  expect(stranger.lines).toEqual([]);
  await agent(kas, { kasAddress, kasInsecureSkipTlsVerify: true });
  await kas.until(({ links }) => links[1]?.agent != null);
});

it("dials through the proxy of HTTPS_PROXY with its credentials", async () => {
  const kas = stack.use(await grpcKas());
  const asked: unknown[] = [];
  const proxy: Server = createServer();
  proxy.on("connect", (request, socket) => {
    asked.push([request.url, request.headers["proxy-authorization"]]);
    const upstream = connect(kas.port, "127.0.0.1", () => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      socket.pipe(upstream).pipe(socket);
    });
    for (const end of [socket, upstream]) end.on("error", () => {});
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  stack.defer(() => void proxy.close());
  const { port } = proxy.address() as AddressInfo;
  const kasAddress = `grpc://kas.example.com:${kas.port}`;
  await agent(kas, { kasAddress }, { https_proxy: `http://u:p@127.0.0.1:${port}` });
  await kas.until(({ links }) => links[0]?.agent != null);
  expect(asked).toEqual([[`kas.example.com:${kas.port}`, `Basic ${Buffer.from("u:p").toString("base64")}`]]);
});

it.each([
  [
    "a proxy that speaks TLS",
    { kasAddress: "grpc://kas.example.com" },
    { HTTPS_PROXY: "https://p:1" },
    /proxies that speak TLS/,
  ],
  ["a kubeconfig that is not there", { kubeconfig: "/nowhere" }, {}, /cannot read \/nowhere/],
] as const)("does not start with %s, and says so", async (_, flags, env, message) => {
  const kas = stack.use(await grpcKas());
  await expect(agent(kas, flags, env)).rejects.toThrow(message);
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

it("serves no more streams at once than AGENTK_MAX_STREAMS, and says what to do", async () => {
  const kas = stack.use(await grpcKas());
  const { api, finish } = await slowApi();
  await agent(kas, { kubeconfig: kubeconfig(api.url) }, { AGENTK_MAX_STREAMS: "1" });
  await kas.until(({ links }) => links[0]?.agent != null);
  const first = call(kas, {});
  await first.until((c) => c.text === "first ");
  const second = call(kas, {});
  await second.until((c) => c.isClosed);
  expect(second.reset_).toMatchObject({ failure: { code: "busy" }, unprocessed: true });
  finish();
  await first.done();
  expect(first.text).toBe("first last");
});

it("refuses AGENTK_MAX_STREAMS that is no number", async () => {
  const kas = stack.use(await grpcKas());
  await expect(agent(kas, {}, { AGENTK_MAX_STREAMS: "many" })).rejects.toThrow(/AGENTK_MAX_STREAMS: expected a number/);
});
