/** Ordinary requests through the proxy, with a plain HTTP client and with raw bytes. */
import { createHash, randomBytes } from "node:crypto";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import { encodeTrailer } from "../../src/link/messages.ts";
import type { Stream } from "../../src/link/stream.ts";
import { VirtualClock } from "../support/virtual-clock.ts";
import {
  AUTH,
  answering,
  type Behaviour,
  echoing,
  head,
  headersOf,
  RawClient,
  request,
  startProxy,
  until,
} from "./harness.ts";

const GET_PODS = request("GET /api/v1/pods");

function call(
  url: string,
  method = "GET",
  headers: Record<string, string> = {},
  body?: Buffer,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const all = { authorization: "Bearer pat:1:agent", connection: "close", ...headers };
    httpRequest(url, { method, headers: all, agent: false }, resolve).on("error", reject).end(body);
  });
}

const doing =
  (act: (stream: Stream) => void): Behaviour =>
  (_request, stream) => {
    act(stream);
    return {};
  };

describe("an ordinary request", () => {
  it("reaches the agent with its own bytes and who asked, and brings the answer back", async () => {
    await using kas = await startProxy(
      answering(200, "pods", ["content-length", "4", "warning", '299 - "old"', "server", "x"]),
    );
    const path = "/api/v1/namespaces/a%2Fb/pods?labelSelector=a%3Db&x=%41+b";
    const answer = await call(kas.url + path, "GET", { "x-thing": "1" });

    expect(await text(answer)).toBe("pods");
    expect(answer.headers).toMatchObject({ "content-length": "4", warning: '299 - "old"', via: "1.1 kas" });
    expect(answer.headers["x-kas-trace-id"]).toMatch(/^[0-9a-f]{32}$/);
    expect(answer.headers.server).toBeUndefined();
    const [route] = kas.router.requests;
    expect(route).toMatchObject({
      agentId: 1,
      kind: "http",
      target: { type: "kubernetes" },
      method: "GET",
      path,
      idempotent: true,
      upgrade: false,
      class: "unary",
      acceptWithin: 20_000,
      timeLeft: 0,
      caller: { kind: "pat", id: "agent", as: null },
    });
    expect(route && [...headersOf(route)]).toEqual([
      ["x-thing", "1"],
      ["via", "1.1 kas"],
    ]);
  });

  it("takes its head and first data in one packet, and shows the first bytes long before the last", async () => {
    let finish = () => {};
    await using kas = await startProxy((_request, stream) => {
      stream.head(head(200));
      stream.data(Buffer.from("first"));
      finish = () => {
        stream.data(Buffer.from("last"));
        stream.end();
      };
      return {};
    });
    using client = new RawClient(kas.port).send(GET_PODS);
    let packets = 0;
    client.socket.on("data", () => {
      packets += 1;
    });
    await client.has("first");
    expect(packets).toBe(1);
    expect(client.text).not.toContain("last");
    finish();
    expect(await client.has("0\r\n\r\n")).toContain("4\r\nlast\r\n");
  });

  it("shows the head of a watch at once, before any event", async () => {
    await using kas = await startProxy((_request, stream) => {
      stream.head(head(200));
      return {};
    });
    using client = new RawClient(kas.port).send(request("GET /api/v1/pods?watch=1"));
    await client.has("\r\n\r\n");
    expect(kas.router.requests[0]?.class).toBe("watch");
  });

  it("serves many requests on one connection, also those begun before the first is answered, in order", async () => {
    await using kas = await startProxy((route, stream) => {
      const late = route.path === "/1" ? 3 : 0;
      const answer = (turns: number): void => {
        if (turns > 0) setImmediate(answer, turns - 1);
        else answering(200, `[${route.path}]`)(route, stream);
      };
      answer(late);
      return {};
    });
    using client = new RawClient(kas.port).send(request("GET /1") + request("GET /2") + request("GET /3"));
    const all = await client.has("[/3]");
    expect(all.match(/\[\/\d\]/g)).toEqual(["[/1]", "[/2]", "[/3]"]);
    client.send(request("GET /4"));
    await client.has("[/4]");
    expect(kas.proxy.openSockets).toBe(1);
  });

  it("refuses more than it serves at once on one connection", async () => {
    await using kas = await startProxy(answering(200, "x"), { limits: { maxPipelined: 2 } });
    using client = new RawClient(kas.port).send(request("GET /1") + request("GET /2") + request("GET /3"));
    expect(await client.has("HTTP/1.1 429")).toContain("HTTP/1.1 200");
  });

  it("answers HEAD with the length of what GET would bring, and no body", async () => {
    await using kas = await startProxy(answering(200, "", ["content-length", "1234"]));
    using client = new RawClient(kas.port).send(request("HEAD /api") + request("HEAD /api"));
    await until(() => client.text.split("HTTP/1.1 200").length === 3, "both answers");
    expect(client.text).toContain("content-length: 1234");
    expect(client.text.endsWith("\r\n\r\n")).toBe(true);
  });

  it.each([204, 304])("sends %i without a body, whatever the agent sends with it", async (status) => {
    await using kas = await startProxy(answering(status, "smuggled", []));
    using client = new RawClient(kas.port).send(request("GET /1") + request("GET /2"));
    await until(() => client.text.split(`HTTP/1.1 ${status}`).length === 3, "both answers");
    expect(client.text).not.toContain("smuggled");
  });

  it("passes on trailers, but none that frame or steer", async () => {
    await using kas = await startProxy((_request, stream) => {
      stream.head(head(200));
      stream.data(Buffer.from("x"));
      stream.trailer(encodeTrailer({ status: 0, message: "", headers: ["x-sum", "1", "set-cookie", "a=b"] }));
      stream.end();
      return {};
    });
    using client = new RawClient(kas.port).send(GET_PODS);
    const all = await client.has("x-sum: 1");
    expect(all).not.toContain("set-cookie");
  });

  it("carries a chunked upload of 20 MB unchanged, in both directions at once", async () => {
    await using kas = await startProxy(echoing);
    const body = randomBytes(20 * 1024 * 1024);
    const answer = await call(kas.url, "POST", { "transfer-encoding": "chunked" }, body);
    const hash = createHash("sha256");
    for await (const chunk of answer) hash.update(chunk);
    expect(hash.digest("hex")).toBe(createHash("sha256").update(body).digest("hex"));
    expect(kas.records[0]).toMatchObject({ bytesIn: body.length, bytesOut: body.length, status: 200, outcome: "ok" });
    expect(kas.router.ingress[0]?.mostOutstanding).toBeLessThanOrEqual(64 * 1024);
  });

  it("asks the caller for the body only once an agent took the request", async () => {
    let accept = () => {};
    await using kas = await startProxy((route, stream) => {
      accept = () => stream.accept();
      return { end: () => answering(201, "made")(route, stream), data: (bytes) => stream.consumed(bytes.length) };
    });
    using client = new RawClient(kas.port);
    client.send(request("POST /api", `${AUTH}Expect: 100-continue\r\nContent-Length: 4\r\n`));
    await until(() => kas.router.requests.length === 1, "it is routed");
    expect(client.text).toBe("");
    accept();
    await client.has("HTTP/1.1 100 Continue");
    client.send("body");
    await client.has("made");
    expect(headersOf(kas.router.requests[0] ?? expect.fail()).get("expect")).toBeUndefined();
  });
});

describe("backpressure", () => {
  it("stops taking from the agent while the caller does not read, and goes on when it does", async () => {
    const total = 8 * 1024 * 1024;
    await using kas = await startProxy((_request, stream) => {
      stream.head(head(200, ["content-length", String(total)]));
      stream.data(Buffer.alloc(total));
      stream.end();
      return {};
    });
    using client = new RawClient(kas.port);
    client.socket.pause();
    client.send(GET_PODS);
    const left = () => kas.router.agent[0]?.queued ?? total;
    await until(() => left() < total, "it begins");
    let before = -1;
    for (let turns = 0; turns < 200; turns++) {
      before = left();
      await new Promise(setImmediate);
    }
    const stalledAt = left();
    expect(stalledAt).toBe(before);
    expect(stalledAt).toBeGreaterThan(0);
    expect(kas.router.agent[0]?.mostOutstanding).toBeLessThanOrEqual(64 * 1024);
    client.socket.resume();
    await until(() => client.bytes > total, "all of it came");
  });

  it("stops reading the body while the agent does not take it, and goes on when it does", async () => {
    let held = 0;
    let taking = false;
    let take = () => {};
    await using kas = await startProxy((route, stream) => {
      take = () => {
        taking = true;
        stream.consumed(held);
      };
      return {
        data(bytes) {
          held += bytes.length;
          if (taking) stream.consumed(bytes.length);
        },
        end: () => answering(200, "done")(route, stream),
      };
    });
    const body = Buffer.alloc(16 * 1024 * 1024);
    using client = new RawClient(kas.port).send(request("PUT /api", `${AUTH}Content-Length: ${body.length}\r\n`));
    client.socket.write(body);
    await until(() => held >= 64 * 1024, "the window is full");
    for (let turns = 0; turns < 200; turns++) await new Promise(setImmediate);
    expect(held).toBe(64 * 1024);
    expect(kas.router.ingress[0]?.queued).toBeLessThanOrEqual(256 * 1024);
    expect(client.socket.writableLength).toBeGreaterThan(0);
    take();
    await client.has("done");
    expect(held).toBe(body.length);
  });
});

describe("an answer that comes before the body ended", () => {
  const refuseEarly = answering(413, "too big");

  it("is delivered whole, and the connection is good for the next request", async () => {
    await using kas = await startProxy((route, stream) => {
      if (route.method === "GET") return answering(200, "next")(route, stream);
      const { end, ...rest } = refuseEarly(route, stream);
      stream.stop();
      return { ...rest, ...(end && { end }) };
    });
    using client = new RawClient(kas.port).send(request("POST /api", `${AUTH}Content-Length: 3000000\r\n`));
    client.socket.write(Buffer.alloc(1_000_000));
    await client.has("too big");
    client.socket.write(Buffer.alloc(2_000_000));
    client.send(GET_PODS);
    await client.has("next");
  });

  it("ends the connection when the rest of the body is too long", async () => {
    await using kas = await startProxy(refuseEarly, { limits: { discardBytes: 100_000 } });
    using client = new RawClient(kas.port).send(request("POST /api", `${AUTH}Content-Length: 3000000\r\n`));
    await client.has("too big");
    client.socket.write(Buffer.alloc(2_000_000));
    await until(() => client.closed || client.ended, "it is closed");
  });

  it("ends the connection when the rest of the body takes too long", async () => {
    const clock = new VirtualClock();
    await using kas = await startProxy(refuseEarly, { clock });
    using client = new RawClient(kas.port).send(request("POST /api", `${AUTH}Content-Length: 3000000\r\n`));
    await client.has("too big");
    await until(() => clock.pending === 1, "a deadline is set");
    clock.advance(30_000);
    await client.over();
    await until(() => clock.pending === 0, "the deadline is gone");
  });

  it("does the same for an answer of our own", async () => {
    await using kas = await startProxy(answering(200, "next"));
    using client = new RawClient(kas.port).send(request("POST /api", "Content-Length: 300000\r\n"));
    await client.has("HTTP/1.1 401");
    client.socket.write(Buffer.alloc(300_000));
    client.send(GET_PODS);
    await client.has("next");
  });
});

describe("an answer that breaks off", () => {
  it.each([
    ["chunked", []],
    ["with a content-length", ["content-length", "100"]],
  ])("never looks whole (%s)", async (_name, headers) => {
    let cut = () => {};
    await using kas = await startProxy((_request, stream) => {
      stream.head(head(200, headers));
      stream.data(Buffer.from("half"));
      cut = () => stream.reset({ failure: failure("outcome-unknown", "lost"), unprocessed: false });
      return {};
    });
    using client = new RawClient(kas.port).send(GET_PODS);
    await client.has("half");
    cut();
    const all = await client.over();
    expect(all).not.toContain("\r\n0\r\n");
    expect(all).not.toContain("Status");
    await until(() => kas.records.length === 1, "it is recorded");
    expect(kas.records[0]).toMatchObject({ status: 200, outcome: "agent_error", failure: "outcome-unknown" });
  });

  it("resets the connection of an HTTP/1.0 caller, to whom the end of the connection is the end of the answer", async () => {
    let cut = () => {};
    await using kas = await startProxy((_request, stream) => {
      stream.head(head(200));
      stream.data(Buffer.from("half"));
      cut = () => stream.reset({ failure: failure("outcome-unknown", "lost"), unprocessed: false });
      return {};
    });
    using client = new RawClient(kas.port).send(GET_PODS.replace("HTTP/1.1", "HTTP/1.0"));
    await client.has("half");
    cut();
    await until(() => client.closed, "it is reset");
    expect(client.ended).toBe(false);
  });

  it("ends its connection also while it waits behind another answer", async () => {
    await using kas = await startProxy((route, stream) =>
      route.path === "/1" ? {} : answering(200, "too much", ["content-length", "4"])(route, stream),
    );
    using client = new RawClient(kas.port).send(request("GET /1") + request("GET /2") + request("GET /3"));
    expect(await client.over()).toBe("");
    await until(() => kas.records.length === 3, "all are recorded");
  });

  it.each([
    ["longer", "12345678"],
    ["shorter", "12"],
  ])("is cut when it is %s than it said", async (_name, body) => {
    await using kas = await startProxy(answering(200, body, ["content-length", "4"]));
    using client = new RawClient(kas.port).send(GET_PODS + GET_PODS);
    await client.over();
    expect(client.text).not.toContain(body);
  });

  it.each([
    ["no head", doing((stream) => stream.end())],
    ["a bad content-length", answering(200, "x", ["content-length", "1, 2"])],
    ["a header that splits", answering(200, "x", ["x", "a\r\nset-cookie: b"])],
    ["a 101 that nobody asked for", answering(101)],
    ["an unreadable head", doing((stream) => stream.head(Buffer.of(1)))],
  ])("is a 502 when the agent sends %s", async (_name, behaviour) => {
    await using kas = await startProxy(behaviour);
    const answer = await call(kas.url);
    expect(answer.statusCode).toBe(502);
    expect(answer.headers["failure-code"]).toBe("protocol");
    expect(answer.headers["retry-after"]).toBeUndefined();
    answer.resume();
  });
});

describe("a failure before the head", () => {
  it("is a Kubernetes Status with the trace id, Retry-After only where nothing ran", async () => {
    await using kas = await startProxy((_request, stream) => {
      const code = kas.router.requests.length === 1 ? "agent-offline" : "outcome-unknown";
      stream.reset({ failure: failure(code, `agent 1: ${code}`), unprocessed: code === "agent-offline" });
      return {};
    });
    const offline = await call(kas.url);
    expect(offline.statusCode).toBe(503);
    expect(offline.headers).toMatchObject({ "failure-code": "agent-offline", "retry-after": "1" });
    const traceId = offline.headers["x-kas-trace-id"];
    expect(JSON.parse(await text(offline))).toMatchObject({
      kind: "Status",
      code: 503,
      message: `kas: agent 1: agent-offline. Trace ID: ${traceId}`,
    });
    const unknown = await call(kas.url, "POST");
    expect(unknown.statusCode).toBe(502);
    expect(unknown.headers["retry-after"]).toBeUndefined();
    expect(JSON.parse(await text(unknown))).toMatchObject({ code: 502 });
    expect(kas.counted.map(({ outcome }) => outcome)).toEqual(["no_agent", "agent_error"]);
  });
});

describe("a caller that leaves", () => {
  it.each([
    ["before an answer", ""],
    ["in the middle of one", "some"],
  ])("cancels its stream at once, %s", async (_name, sent) => {
    const resets: string[] = [];
    await using kas = await startProxy((_request, stream) => {
      if (sent) stream.head(head(200));
      if (sent) stream.data(Buffer.from(sent));
      return { reset: ({ failure: { code } }) => void resets.push(code) };
    });
    using client = new RawClient(kas.port).send(GET_PODS);
    if (sent) await client.has(sent);
    await until(() => kas.router.requests.length === 1, "it is routed");
    client.socket.destroy();
    await until(() => resets.length === 1, "the agent hears of it");
    expect(resets).toEqual(["cancelled"]);
    expect(kas.records[0]).toMatchObject({ failure: "cancelled", outcome: sent ? "ok" : "client_error" });
  });

  it("while its credentials are looked up is never routed", async () => {
    await using kas = await startProxy(echoing);
    let admit = () => {};
    kas.access.proxyAccess = (credential) =>
      new Promise((resolve) => {
        admit = () => resolve({ caller: { kind: credential.kind, id: "x", as: null }, services: [], tokenId: "x" });
      });
    using client = new RawClient(kas.port).send(GET_PODS);
    await until(() => kas.proxy.activeRequests === 1, "it came in");
    client.socket.destroy();
    await until(() => kas.proxy.activeRequests === 0, "it is forgotten");
    admit();
    await new Promise(setImmediate);
    expect(kas.router.requests).toEqual([]);
  });

  it("takes all the requests with it that it had begun", async () => {
    await using kas = await startProxy(() => ({}));
    using client = new RawClient(kas.port).send(GET_PODS + GET_PODS + GET_PODS);
    await until(() => kas.router.requests.length === 3, "all are routed");
    client.socket.destroy();
    await until(() => kas.records.length === 3, "all are recorded");
  });
});
