/** What the executor shows an upstream and how it connects: base path, identity, certificates, tokens, kept connections. */
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { TLSSocket } from "node:tls";
import { generate } from "selfsigned";
import { afterEach, expect, it } from "vitest";
import type { ClientTls } from "../../src/agentk/kubernetes.ts";
import { apiServerUpstream, createUpstreams } from "../../src/agentk/upstream.ts";
import { apiServer } from "./api-server.ts";
import { Caller, executorTo } from "./caller.ts";
import { labOn } from "./executor-lab.ts";

let stack = new AsyncDisposableStack();
const lab = labOn(() => stack);
afterEach(async () => {
  await stack.disposeAsync();
  stack = new AsyncDisposableStack();
});

it("keeps the base path of an upstream and sends services no identity", async () => {
  const server = stack.use(await apiServer((request, response) => response.end(JSON.stringify(request.headers))));
  const executor = stack.use(executorTo(server.url, { services: { web: `${server.url}/base` }, token: "Bearer t" }));
  const as = { user: "alice", groups: [], uid: "", extra: [] };
  const caller = await new Caller(executor.execute, {
    target: { type: "service", name: "web" },
    path: "/x?y=1",
    caller: { kind: "pat", id: "7", as },
    headers: ["Impersonate-User", "root", "accept", "text/plain"],
  }).done();
  expect(server.requests[0]?.url).toBe("/base/x?y=1");
  expect(Object.keys(JSON.parse(caller.text)).sort()).toEqual(["accept", "connection", "host"]);
});

it("tells the API server as whom, in exactly the headers of the grant", async () => {
  const { executor } = await lab((request, response) => response.end(JSON.stringify(request.rawHeaders)));
  const as = {
    user: "alice",
    groups: ["devs", "system:authenticated"],
    uid: "42",
    extra: [["a/b%", ["1", "2"]]],
  } as const;
  const caller = await new Caller(executor.execute, { caller: { kind: "pat", id: "7", as } }).done();
  const sent: string[] = JSON.parse(caller.text);
  expect(sent.slice(sent.indexOf("impersonate-user"))).toEqual(
    "impersonate-user alice impersonate-uid 42 impersonate-group devs impersonate-group system:authenticated impersonate-extra-a%2Fb%25 1 impersonate-extra-a%2Fb%25 2".split(
      " ",
    ),
  );
});

it("has 300 requests in flight at once", async () => {
  const waiting: (() => void)[] = [];
  const { executor } = await lab((_, response) => {
    waiting.push(() => response.end("x"));
    if (waiting.length === 300) for (const answer of waiting) answer();
  });
  const callers = Array.from({ length: 300 }, () => new Caller(executor.execute));
  await Promise.all(callers.map((caller) => caller.done()));
  expect(callers.every(({ text }) => text === "x")).toBe(true);
});

it("trusts the authority of the kubeconfig and no other, and shows its client certificate", async () => {
  const extensions = [{ name: "subjectAltName" as const, altNames: [{ type: 7 as const, ip: "127.0.0.1" }] }];
  const own = await generate([{ name: "commonName", value: "api" }], { extensions });
  const pem = { cert: Buffer.from(own.cert), key: Buffer.from(own.private) };
  const server = createServer(
    { ...pem, ca: pem.cert, requestCert: true, rejectUnauthorized: false },
    (request, response) => {
      response.end(String((request.socket as TLSSocket).getPeerCertificate().subject?.CN));
    },
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stack.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = new URL(`https://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const answerWith = (tls: ClientTls) => {
    const api = { url, tls, credential: { type: "none" }, impersonates: null } as const;
    const upstreams = createUpstreams(apiServerUpstream(api, { value: "", renew() {} }), new Map());
    return new Caller(stack.use(executorTo(url.href, { upstreams })).execute).done();
  };
  expect((await answerWith({ ca: pem.cert, ...pem })).text).toBe("api");
  expect((await answerWith({ rejectUnauthorized: false })).text).toBe("undefined");
  const stranger = await answerWith({});
  expect(stranger.reset_?.failure).toMatchObject({
    code: "upstream-unreachable",
    reason: expect.stringContaining("DEPTH_ZERO_SELF_SIGNED_CERT"),
  });
});

it("asks for a newer token when the API server says 401", async () => {
  const server = stack.use(await apiServer((_, response) => response.writeHead(401).end()));
  let renewals = 0;
  const api = apiServerUpstream(
    { url: new URL(server.url), tls: {}, credential: { type: "none" }, impersonates: null },
    { value: "Bearer old", renew: () => renewals++ },
  );
  const executor = stack.use(executorTo(server.url, { upstreams: createUpstreams(api, new Map()) }));
  const caller = await new Caller(executor.execute).done();
  expect([caller.head_?.status, renewals]).toEqual([401, 1]);
});

it("uses one kept connection for requests in turn, a delete with a body and a HEAD among them", async () => {
  const { executor, server } = await lab((request, response) => void request.resume().on("end", () => response.end()));
  const connections = new Set<unknown>();
  for (const method of ["GET", "HEAD", "DELETE", "GET"]) {
    const caller = new Caller(executor.execute, { method }, { end: false });
    if (method === "DELETE") caller.stream.data(Buffer.from("{}"));
    caller.stream.end();
    await caller.done();
    connections.add(server.requests.at(-1)?.socket);
  }
  expect(connections.size).toBe(1);
});
