import { createHash, randomBytes } from "node:crypto";
import { createServer } from "node:https";
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { generate } from "selfsigned";
import { afterEach, describe, expect, it } from "vitest";
import type { ClientTls } from "../../src/agentk/kubernetes.ts";
import { apiServerUpstream, createUpstreams } from "../../src/agentk/upstream.ts";
import { apiServer, type TestApiServer } from "./api-server.ts";
import { Caller, executorTo, type TestExecutor } from "./caller.ts";

let stack = new AsyncDisposableStack();
afterEach(async () => {
  await stack.disposeAsync();
  stack = new AsyncDisposableStack();
});

async function lab(
  listener: Parameters<typeof apiServer>[0],
  options: Parameters<typeof executorTo>[1] = {},
): Promise<{ readonly server: TestApiServer; readonly executor: TestExecutor }> {
  const server = stack.use(await apiServer(listener));
  return { server, executor: stack.use(executorTo(server.url, options)) };
}

describe("an answer", () => {
  it("comes with its status, its headers and its body", async () => {
    const { executor, server } = await lab(
      (request, response) => {
        response.writeHead(201, { "X-One": "1", "Set-Cookie": ["a=1", "b=2"] });
        response.end(`${request.method} ${request.url} ${request.headers.host} ${request.headers.authorization}`);
      },
      { token: "Bearer agent" },
    );
    const headers = ["host", "evil", "authorization", "Bearer caller", "cookie", "c=1", "x-remote-user", "root"];
    const caller = await new Caller(executor.execute, { path: "/api/v1/a%2Fb/..//c?x=%20", headers }).done();

    expect(caller.head_?.status).toBe(201);
    expect(caller.head_?.headers.join(" ")).toContain("x-one 1 set-cookie a=1 set-cookie b=2");
    expect(caller.head_?.headers).not.toContain("connection");
    expect(caller.text).toBe(`GET /api/v1/a%2Fb/..//c?x=%20 127.0.0.1:${server.port} Bearer agent`);
    expect(server.requests[0]?.headers).not.toHaveProperty("cookie");
    expect(server.requests[0]?.headers).not.toHaveProperty("x-remote-user");
    expect(caller).toMatchObject({ wasAccepted: true, ended: true, reset_: null });
  });

  it("streams its first bytes before its last are there", async () => {
    let finish = () => {};
    const { executor } = await lab((_, response) => {
      response.write("first");
      finish = () => response.end("last");
    });
    const caller = await new Caller(executor.execute).until((c) => c.text === "first");
    expect(caller.ended).toBe(false);
    finish();
    await caller.done();
    expect(caller.text).toBe("firstlast");
  });

  it("is read from the upstream only as fast as the caller takes it", async () => {
    const total = 20 * 1024 * 1024;
    let written = 0;
    const { executor } = await lab((_, response) => {
      const chunk = Buffer.alloc(64 * 1024);
      const more = () => {
        while (written < total) {
          written += chunk.length;
          if (!response.write(chunk)) return response.once("drain", more);
        }
        return response.end();
      };
      more();
    });
    const caller = new Caller(executor.execute);
    caller.reading = false;
    await caller.until((c) => c.bytes === 64 * 1024);
    await settled(() => written);
    expect(caller.bytes).toBe(64 * 1024);
    expect(caller.executor.queued).toBeLessThanOrEqual(192 * 1024);
    expect(written).toBeLessThan(total);
    caller.take();
    await caller.done();
    expect(caller.bytes).toBe(total);
  });

  it("has its trailers", async () => {
    const { executor } = await lab((_, response) => {
      response.writeHead(200, { Trailer: "X-Sum" });
      response.write("x");
      response.addTrailers({ "X-Sum": "42" });
      response.end();
    });
    const caller = await new Caller(executor.execute).done();
    expect(caller.trailer_).toEqual({ status: 0, message: "", headers: ["x-sum", "42"] });
  });

  it.each([
    ["HEAD", 200],
    ["GET", 204],
    ["GET", 304],
  ])("to %s with status %d has no body and ends", async (method, status) => {
    const { executor } = await lab((_, response) => {
      response.writeHead(status, status === 200 ? { "content-length": "5" } : {});
      response.end();
    });
    const caller = await new Caller(executor.execute, { method }).done();
    expect(caller).toMatchObject({ bytes: 0, ended: true, reset_: null });
    expect(caller.head_?.status).toBe(status);
    expect(caller.header("content-length")).toBe(status === 200 ? "5" : caller.header("content-length"));
  });

  it("is the final one: interim answers are not passed on", async () => {
    const { executor } = await lab((_, response) => {
      response.writeEarlyHints({ link: "</x>; rel=preload" });
      response.end("final");
    });
    const caller = await new Caller(executor.execute).done();
    expect([caller.head_?.status, caller.text]).toEqual([200, "final"]);
  });

  it("that breaks off in the middle is reset, so that half of it never looks whole", async () => {
    const { executor } = await lab((_, response) => {
      response.writeHead(200, { "content-length": "100" });
      response.write("half", () => response.destroy());
    });
    const caller = await new Caller(executor.execute).done();
    expect(caller.ended).toBe(false);
    expect(caller.reset_).toMatchObject({ unprocessed: false, failure: { code: "outcome-unknown" } });
  });
});

describe("a request body", () => {
  it("of 20 MB arrives whole, and its sender is credited only as it leaves", async () => {
    const hash = createHash("sha256");
    const { executor, server } = await lab((request, response) => {
      request.on("data", (chunk) => hash.update(chunk));
      request.on("end", () => response.end(hash.digest("hex")));
    });
    const body = randomBytes(20 * 1024 * 1024);
    const caller = new Caller(executor.execute, { method: "POST" }, { end: false });
    for (let at = 0; at < body.length; at += 50_000) caller.stream.data(body.subarray(at, at + 50_000));
    caller.stream.end();
    await caller.done();
    expect(caller.text).toBe(createHash("sha256").update(body).digest("hex"));
    expect(caller.stream.mostOutstanding).toBeLessThanOrEqual(64 * 1024);
    expect(server.requests[0]?.headers["transfer-encoding"]).toBe("chunked");
  });

  it("that the upstream does not read stops at the window", async () => {
    const { executor } = await lab((request) => {
      request.pause();
    });
    const caller = new Caller(executor.execute, { method: "POST" }, { end: false });
    const total = 64 * 1024 * 1024;
    for (let at = 0; at < total; at += 1 << 20) caller.stream.data(Buffer.alloc(1 << 20));
    await caller.until((c) => c.sentBytes > 0);
    await settled(() => caller.sentBytes);
    // What the kernel's socket buffers hold, and one window.
    expect(caller.sentBytes).toBeLessThan(total / 2);
    expect(caller.stream.mostOutstanding).toBeLessThanOrEqual(64 * 1024);
    caller.stream.reset({ failure: { code: "cancelled", reason: "" }, unprocessed: false });
    expect(caller.isClosed).toBe(true);
  });

  it("that came whole with its end is sent with its length, whether declared or not", async () => {
    const { executor, server } = await lab((request, response) => void request.pipe(response));
    for (const headers of [[], ["content-length", "5"]]) {
      const caller = new Caller(executor.execute, { method: "PUT", headers }, { end: false });
      caller.stream.data(Buffer.from("hello"));
      caller.stream.end();
      await caller.done();
      expect(caller.text).toBe("hello");
      expect(server.requests.at(-1)?.headers["content-length"]).toBe("5");
    }
  });

  it("is absent when the request ended without data", async () => {
    const { executor, server } = await lab((_, response) => response.end());
    await new Caller(executor.execute, { method: "GET" }).done();
    expect(server.requests[0]?.headers).not.toHaveProperty("transfer-encoding");
    expect(server.requests[0]?.headers).not.toHaveProperty("content-length");
  });

  it("streams under way while the answer already comes", async () => {
    const { executor } = await lab((request, response) => {
      response.flushHeaders();
      request.pipe(response);
    });
    const caller = new Caller(executor.execute, { method: "POST" }, { end: false });
    caller.stream.data(Buffer.from("a"));
    await caller.until((c) => c.text === "a");
    caller.stream.data(Buffer.from("b"));
    await caller.until((c) => c.text === "ab");
    caller.stream.end();
    await caller.done();
    expect(caller.reset_).toBeNull();
  });

  it("is stopped when the answer ended before it", async () => {
    const { executor, server } = await lab((_, response) => {
      response.writeHead(413);
      response.end("too much");
    });
    const caller = new Caller(executor.execute, { method: "POST" }, { end: false });
    caller.stream.data(Buffer.from("start"));
    await caller.until((c) => c.ended && c.wasStopped);
    expect([caller.head_?.status, caller.text, caller.reset_]).toEqual([413, "too much", null]);
    caller.stream.data(Buffer.alloc(100));
    caller.stream.end();
    await caller.done();
    await server.until((s) => s.sockets.size === 0);
  });

  it("that is not as long as declared is refused", async () => {
    const { executor } = await lab((request, response) => void request.pipe(response));
    const empty = await new Caller(executor.execute, { method: "POST", headers: ["content-length", "3"] }).done();
    expect(empty.reset_?.failure.code).toBe("invalid");
    const long = new Caller(executor.execute, { method: "POST", headers: ["content-length", "3"] }, { end: false });
    long.stream.data(Buffer.from("four"));
    long.stream.end();
    await long.done();
    expect(long.reset_?.failure.code).toBe("invalid");
  });
});

describe("a failure", () => {
  it("to connect says that nothing was sent, to whom, and what to look at", async () => {
    const { executor, server } = await lab((_, response) => response.end());
    const { port } = server;
    await stack.disposeAsync();
    stack = new AsyncDisposableStack();
    const again = stack.use(executorTo(`http://127.0.0.1:${port}`));
    const caller = await new Caller(again.execute).done();
    expect(executor).not.toBe(again);
    expect(caller).toMatchObject({ wasAccepted: false, head_: null });
    expect(caller.reset_).toEqual({
      unprocessed: false,
      failure: {
        code: "upstream-unreachable",
        reason: `the agent could not connect to the Kubernetes API server at 127.0.0.1:${port} (ECONNREFUSED), nothing was sent: check that the agent's pod can reach it (network policy, kubeconfig)`,
      },
    });
  });

  it("after the request was sent leaves its outcome unknown", async () => {
    const { executor } = await lab((request) => request.socket.destroy());
    const caller = new Caller(executor.execute, { method: "POST" }, { end: false });
    caller.stream.data(Buffer.from("x"));
    caller.stream.end();
    await caller.done();
    expect(caller.wasAccepted).toBe(true);
    expect(caller.reset_).toMatchObject({ unprocessed: false, failure: { code: "outcome-unknown" } });
  });

  it("of the caller ends the request at the upstream at once", async () => {
    const { executor, server } = await lab((_, response) => {
      response.write("x");
    });
    const caller = await new Caller(executor.execute).until((c) => c.bytes === 1);
    expect(server.sockets.size).toBe(1);
    caller.stream.reset({ failure: { code: "cancelled", reason: "gone" }, unprocessed: false });
    await server.until((s) => s.sockets.size === 0);
  });

  it("is none when the caller wants no more of the answer, and the upstream is left at once", async () => {
    const { executor, server } = await lab((_, response) => {
      response.write("x");
    });
    const caller = await new Caller(executor.execute).until((c) => c.bytes === 1);
    caller.stream.stop();
    await caller.done();
    expect(caller).toMatchObject({ ended: true, reset_: null });
    await server.until((s) => s.sockets.size === 0);
  });

  it("of the caller while the connection is being made sends nothing", async () => {
    const own = await generate([{ name: "commonName", value: "api" }]);
    const requests: string[] = [];
    const secured = createServer({ cert: own.cert, key: own.private }, (request) => requests.push(request.url ?? ""));
    const { promise: connecting, resolve: connected } = Promise.withResolvers<Socket>();
    const server = stack.use(await listening(createTcpServer(connected)));
    const api = { url: new URL(`https://127.0.0.1:${server.port}`), tls: { rejectUnauthorized: false } } as const;
    const upstream = apiServerUpstream(
      { ...api, credential: { type: "none" }, impersonates: null },
      { value: "", renew() {} },
    );
    const executor = stack.use(executorTo(api.url.href, { upstreams: createUpstreams(upstream, new Map()) }));
    const caller = new Caller(executor.execute, { method: "POST", path: "/once" });
    const socket = await connecting;
    caller.stream.reset({ failure: { code: "cancelled", reason: "gone" }, unprocessed: false });
    const closed = new Promise((resolve) => socket.once("close", resolve));
    secured.emit("connection", socket);
    await closed;
    expect(requests).toEqual([]);
  });

  it("to finish in the time left ends both sides", async () => {
    const { executor, server } = await lab(() => {});
    const caller = await new Caller(executor.execute, { timeLeft: 20 }).done();

    expect(caller.reset_?.failure.code).toBe("deadline");
    await server.until((s) => s.sockets.size === 0);
  });

  it("to begin in time is proof that nothing was sent", async () => {
    const { executor, server } = await lab((_, response) => response.end());
    const caller = await new Caller(executor.execute, { acceptWithin: 20 }, { end: false }).done();
    expect(caller.reset_).toMatchObject({ unprocessed: true, failure: { code: "deadline" } });
    expect(server.requests).toEqual([]);
  });

  it("of a too long head of the answer is too-large", async () => {
    const { executor } = await lab((_, response) => {
      response.setHeader("x-long", "x".repeat(70_000));
      response.end();
    });
    const caller = await new Caller(executor.execute).done();
    expect(caller.reset_?.failure.code).toBe("too-large");
  });
});

describe("what is not allowed", () => {
  it("is a service that the operator did not name", async () => {
    const { executor } = await lab(() => {}, { services: { prometheus: "http://127.0.0.1:1" } });
    const caller = await new Caller(executor.execute, { target: { type: "service", name: "vault" } }).done();
    expect(caller.reset_).toEqual({
      unprocessed: false,
      failure: {
        code: "forbidden",
        reason:
          'this agent does not allow the service "vault": it allows prometheus; start agentk with --service vault=http://host:port to allow it',
      },
    });
  });

  it.each(["http://evil/x", "*", "", "x", "/a b", "/a\nb", "/\u{1F600}"])("is the path %j", async (path) => {
    const { executor, server } = await lab((_, response) => response.end());
    const caller = await new Caller(executor.execute, { path }).done();
    expect(caller.reset_?.failure.code).toBe("invalid");
    expect(server.requests).toEqual([]);
  });

  it.each(["/../x", "/a/%2E%2e/b", "/.", "/a/.%2e"])(
    "is the path %s where the upstream has a base path",
    async (path) => {
      const server = stack.use(await apiServer((_, response) => response.end()));
      const executor = stack.use(executorTo(`${server.url}/clusters/c1/`));
      const caller = await new Caller(executor.execute, { path }).done();
      expect(caller.reset_?.failure.code).toBe("forbidden");
      expect(server.requests).toEqual([]);
    },
  );

  it("is two users at once", async () => {
    const as = { user: "alice", groups: [], uid: "", extra: [] };
    const caller = { kind: "pat", id: "7", as } as const;
    const { executor, server } = await lab((_, response) => response.end());
    const nested = await new Caller(executor.execute, { caller, headers: ["Impersonate-User", "root"] }).done();
    expect(nested.reset_?.failure).toEqual({
      code: "forbidden",
      reason:
        "nested impersonation is not supported: the caller's grant and Impersonate-* headers both name a user; leave one of them out",
    });
    expect(server.requests).toEqual([]);
  });
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

async function listening(server: Server): Promise<AsyncDisposable & { readonly port: number }> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { port, [Symbol.asyncDispose]: () => new Promise<void>((resolve) => void server.close(() => resolve())) };
}

/** Resolves once `value` has not changed for some turns of the event loop that also let sockets move. */
async function settled(value: () => number): Promise<void> {
  for (let same = 0, last = value(); same < 200; same = value() === last ? same + 1 : 0) {
    last = value();
    await new Promise((resolve) => setImmediate(resolve));
  }
}
