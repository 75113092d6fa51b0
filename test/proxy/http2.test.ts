/** The proxy over HTTP/2: what a request is and how it ends is as over HTTP/1.1, on streams that do not touch each other. */
import { createHash, randomBytes } from "node:crypto";
import { constants } from "node:http2";
import { beforeAll, describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import { widenServerWindows } from "../../src/link/carriers/server-window.ts";
import { encodeTrailer } from "../../src/link/messages.ts";
import type { Stream } from "../../src/link/stream.ts";
import type { ProxyLimits } from "../../src/proxy/visit.ts";
import { CertificateFiles, makePair, type Pair } from "../net/certificate-files.ts";
import { answering, type Behaviour, echoing, head, headersOf, serveTls, startProxy, until } from "./harness.ts";
import {
  CODE,
  type Fields,
  FRAME,
  FrameCaller,
  frame,
  GET,
  Http2Caller,
  over,
  request,
  textOf,
} from "./http2-caller.ts";

let pair: Pair;
beforeAll(async () => {
  pair = await makePair("kas");
});

const MIB = 1024 * 1024;
const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
const GOOD_TRAILERS = ["grpc-status", "0", "content-type", "a", "content-type", "b", "x-a", "1", "X-A", "2"];
const BAD_TRAILERS = [
  "connection",
  "x",
  "content-length",
  "7",
  "http2-settings",
  "x",
  "te",
  "trailers",
  "upgrade",
  "h2c",
];
/** A WINDOW_UPDATE that no window can take. */
const TOO_WIDE = Buffer.from([0x7f, 0xff, 0xff, 0xff]);
const SILENT: Behaviour = () => ({});

async function start(behaviour: Behaviour, limits: Partial<ProxyLimits> = {}, window?: number) {
  const files = new CertificateFiles();
  const kas = await startProxy(behaviour, { limits, version: "1.2", ...(window !== undefined && { window }) });
  const listener = await serveTls(kas, files, pair);
  return {
    kas,
    port: listener.port,
    async [Symbol.asyncDispose]() {
      await kas[Symbol.asyncDispose]();
      await listener[Symbol.asyncDispose]();
      files[Symbol.dispose]();
    },
  };
}

/** Answers with so many bytes, as fast as they are taken. */
const sending =
  (bytes: Buffer): Behaviour =>
  (_request, stream) => {
    stream.head(head(200));
    let at = 0;
    const more = () => {
      while (at < bytes.length && stream.queued < 64 * 1024) {
        stream.data(bytes.subarray(at, at + 16_384));
        at += 16_384;
      }
      if (at >= bytes.length) stream.end();
    };
    more();
    return { sent: () => at < bytes.length && more() };
  };

describe("a request over HTTP/2", () => {
  it("is answered as over HTTP/1.1, and its record says what it came over", async () => {
    await using at = await start(answering(200, "hello", ["content-length", "5", "x-a", "1", "x-a", "2"]));
    await using caller = new Http2Caller(at.port);
    const got = await caller.get("/api/v1/pods?limit=1", { "x-b": "3" });

    expect(caller.session.alpnProtocol).toBe("h2");
    expect([got.status, textOf(got)]).toEqual([200, "hello"]);
    expect(got.headers).toMatchObject({ "x-a": "1, 2", via: "1.1 kas/1.2", "content-length": "5" });
    const asked = at.kas.router.requests[0];
    expect(asked).toMatchObject({ method: "GET", path: "/api/v1/pods?limit=1", agentId: 1 });
    expect(Object.fromEntries(asked ? headersOf(asked) : [])).toEqual({ "x-b": "3", via: "2 kas/1.2" });
    expect(at.kas.records[0]).toMatchObject({ protocol: "h2", status: 200, verb: "list", failure: "", bytesOut: 5 });
  });

  it("joins the pieces of a cookie", async () => {
    await using at = await start(answering(200));
    await using caller = new Http2Caller(at.port);
    const csrf = { "gitlab-agent-id": "1", "x-csrf-token": "c", authorization: undefined };
    await caller.get("/api", { ...csrf, cookie: ["a=1", "_gitlab_kas=agent", "b=2"] });

    expect(at.kas.access.seen[0]).toMatchObject({ kind: "cookie", token: "agent" });
  });

  it("carries large bodies both ways, unchanged", async () => {
    await using at = await start(echoing, {}, 256 * 1024);
    await using caller = new Http2Caller(at.port);
    const body = randomBytes(8 * MIB);
    const got = caller.ask({ ":method": "PUT", ":path": "/api/v1/x" }, { open: true });
    got.stream.end(body);
    await over(got);

    expect(got.status).toBe(200);
    expect(sha256(Buffer.concat(got.chunks))).toBe(sha256(body));
    await until(() => at.kas.records.length === 1, "it is recorded");
    expect(at.kas.records[0]).toMatchObject({ failure: "", bytesIn: body.length, bytesOut: body.length });
  });

  it("shares its connection with a hundred others", async () => {
    await using at = await start((asked, stream) => answering(200, asked.path)(asked, stream));
    await using caller = new Http2Caller(at.port);
    const all = await Promise.all(Array.from({ length: 100 }, (_, i) => caller.get(`/api/v1/${i}`)));

    expect(all.map(textOf)).toEqual(Array.from({ length: 100 }, (_, i) => `/api/v1/${i}`));
    expect(new Set(at.kas.records.map(({ failure: code }) => code))).toEqual(new Set([""]));
    expect(at.kas.proxy.openSockets).toBe(1);
  });

  it("is served when as many run as are allowed, again and again", async () => {
    await using at = await start((asked, stream) => answering(200, asked.path)(asked, stream));
    await using caller = new Http2Caller(at.port);
    await caller.get("/api");
    const one = async (i: number) => {
      for (let n = 0; n < 8; n++) expect((await caller.get(`/api/${i}/${n}`)).status).toBe(200);
    };
    await Promise.all(Array.from({ length: 250 }, (_, i) => one(i)));
  });

  it("passes trailers on, less what has no place there", async () => {
    await using at = await start((_asked, stream) => {
      stream.head(head(200));
      stream.data(Buffer.from("x"));
      stream.trailer(
        encodeTrailer({
          status: 0,
          message: "",
          headers: [...GOOD_TRAILERS, ...BAD_TRAILERS],
        }),
      );
      stream.end();
      return {};
    });
    await using caller = new Http2Caller(at.port);
    const got = await caller.get("/api");

    expect(textOf(got)).toBe("x");
    expect(Object.fromEntries(Object.entries(got.trailers))).toEqual({
      "grpc-status": "0",
      "content-type": "a, b",
      "x-a": "1, 2",
    });
    await caller.get("/api");
  });

  it("gets no header that belongs to a connection", async () => {
    const hop = ["connection", "x-hop", "x-hop", "1", "keep-alive", "timeout=5", "transfer-encoding", "chunked"];
    await using at = await start(
      answering(200, "hi", [...hop, "upgrade", "h2c", "proxy-connection", "close", "x-a", "1"]),
    );
    await using caller = new Http2Caller(at.port);
    const got = await caller.get("/api");

    expect([got.status, textOf(got)]).toEqual([200, "hi"]);
    const names = got.raw.filter((_, i) => i % 2 === 0);
    expect(names.toSorted()).toEqual([":status", "date", "via", "x-a", "x-content-type-options", "x-kas-trace-id"]);
  });

  it.each([
    ["HEAD", 200],
    ["GET", 204],
    ["GET", 304],
    ["GET", 205],
  ])("%s with status %i has no body", async (method, status) => {
    await using at = await start((_asked, stream) => {
      stream.head(head(status, ["x-a", "1"]));
      stream.data(Buffer.from("not for you"));
      stream.end();
      return {};
    });
    await using caller = new Http2Caller(at.port);
    const got = await caller.get("/api", { ":method": method });

    expect([got.status, textOf(got), got.headers["x-a"]]).toEqual([status, "", "1"]);
    await until(() => at.kas.records.length === 1, "it is recorded");
    expect(at.kas.records[0]?.failure).toBe("");
    expect(got.stream.rstCode).toBe(0);
  });

  it("that waits for 100 Continue gets it once an agent accepted it", async () => {
    await using at = await start((asked, stream) => {
      stream.accept();
      return echoing(asked, stream);
    });
    await using caller = new Http2Caller(at.port);
    const got = caller.ask({ ":method": "POST", ":path": "/api/v1/x", expect: "100-continue" }, { open: true });
    let continued = false;
    got.stream.on("continue", () => {
      continued = true;
      got.stream.end("body");
    });
    await over(got);

    expect([continued, got.status, textOf(got)]).toEqual([true, 200, "body"]);
  });
});

describe("an HTTP/2 request that is refused", () => {
  const refused: [why: string, fields: Fields, status: number, says: string][] = [
    [
      "CONNECT",
      [
        [":method", "CONNECT"],
        [":authority", "kas"],
      ],
      400,
      "CONNECT is not served here",
    ],
    ["TRACE", [[":method", "TRACE"], ...GET.slice(1)], 400, "TRACE is not forwarded"],
    [
      "a path with ..",
      [
        [":method", "GET"],
        [":path", "/api/../x"],
        [":authority", "kas"],
      ],
      400,
      '".." segment',
    ],
    ["a host beside another authority", [...GET, ["host", "other"]], 400, "name different hosts"],
    ["an unknown expectation", [...GET, ["expect", "200-ok"]], 400, "the only Expect"],
    ["two agents", [...GET, ["gitlab-agent-id", "1"], ["gitlab-agent-id", "2"]], 400, "more than one gitlab-agent-id"],
    [
      "too many headers",
      [...GET, ...Array.from({ length: 300 }, (): [string, string] => ["x", "1"])],
      400,
      "256 headers",
    ],
    [
      "too large headers",
      [...GET, ["x", "y".repeat(14_000)], ["z", "y".repeat(2_000)]],
      431,
      "larger than 15000 bytes",
    ],
  ];
  it.each(refused)("for %s is told why, and recorded", async (_why, fields, status, says) => {
    await using at = await start(answering(200), { maxHeaderBytes: 15_000 });
    using caller = new FrameCaller(at.port);
    caller.send(
      request(
        1,
        fields.filter(([name]) => !(name === ":scheme")),
      ),
    );
    await until(() => at.kas.records.length === 1 && caller.endedWell(1), "it is refused");

    expect(at.kas.records[0]).toMatchObject({ status, protocol: "h2", outcome: "client_error" });
    expect(Buffer.concat(caller.of(FRAME.data, 1).map(({ payload }) => payload)).toString()).toContain(
      says.replaceAll('"', '\\"'),
    );
    expect(at.kas.router.requests).toEqual([]);
    caller.send(request(3, GET));
    await until(() => caller.endedWell(3), "the connection serves the next");
  });

  it.each<[string, Fields]>([
    ["a connection header", [...GET, ["connection", "close"]]],
    ["an upgrade", [...GET, ["upgrade", "SPDY/3.1"]]],
    [
      "extended CONNECT",
      [
        [":method", "CONNECT"],
        [":protocol", "websocket"],
        [":path", "/"],
        [":authority", "kas"],
      ],
    ],
    [
      "no path",
      [
        [":method", "GET"],
        [":authority", "kas"],
      ],
    ],
  ])("for %s is reset, and the connection serves on", async (_why, fields) => {
    await using at = await start(answering(200));
    using caller = new FrameCaller(at.port);
    caller.send(request(1, fields), request(3, GET));
    await until(() => caller.endedWell(3), "the next is served");

    expect(caller.resets(1)).toEqual([1]);
    expect(at.kas.router.requests.length).toBe(1);
  });

  it("while it uploads gets the whole answer, then a reset without an error", async () => {
    await using at = await start(answering(200));
    using caller = new FrameCaller(at.port);
    const post: Fields = [
      [":method", "POST"],
      [":path", "/nope/../x"],
      [":authority", "kas"],
    ];
    caller.send(request(1, post, false), frame(FRAME.data, 0, 1, Buffer.alloc(1000)));
    await until(() => caller.resets(1).length > 0, "the rest of its body is not wanted");

    expect(caller.endedWell(1)).toBe(true);
    expect(caller.resets(1)).toEqual([CODE.none]);
    expect(at.kas.records[0]).toMatchObject({ status: 400, failure: "invalid" });
  });

  it("because too many bodies could pile up is told so", async () => {
    await using at = await start(SILENT, { maxBodyBytes: 2 * MIB });
    await using caller = new Http2Caller(at.port);
    const held = [1, 2].map(() => caller.ask({ ":method": "POST", ":path": "/api/v1/x" }, { open: true }));
    await until(() => at.kas.router.requests.length === 2, "two run");
    const third = await over(caller.ask({ ":method": "POST", ":path": "/api/v1/x" }, { open: true }));

    expect(third.status).toBe(429);
    expect(textOf(third)).toContain("too many uploads at once");
    for (const { stream } of held) stream.close(constants.NGHTTP2_CANCEL);
  });
});

describe("an HTTP/2 stream that goes wrong", () => {
  it.each<[what: string, headers: string[]]>([
    ["sized", ["content-length", "100"]],
    ["unsized", []],
  ])("with a %s answer is cut by a reset when its agent is lost, and others go on", async (_what, headers) => {
    let cut = () => {};
    await using at = await start((asked, stream) => {
      if (asked.path !== "/api/cut") return answering(200, "whole")(asked, stream);
      stream.head(head(200, headers));
      stream.data(Buffer.from("half"));
      cut = () => stream.reset({ failure: failure("outcome-unknown", "lost"), unprocessed: false });
      return {};
    });
    using caller = new FrameCaller(at.port);
    caller.send(
      request(1, [
        [":method", "GET"],
        [":path", "/api/cut"],
        [":authority", "kas"],
      ]),
    );
    await until(() => caller.of(FRAME.data, 1).length > 0, "half of it");
    cut();
    await until(() => caller.resets(1).length > 0, "it is cut");
    caller.send(request(3, GET));
    await until(() => caller.endedWell(3), "the next is served");

    expect(caller.resets(1)).toEqual([CODE.internal]);
    expect(caller.endedWell(1)).toBe(false);
    expect(at.kas.records[0]).toMatchObject({ failure: "outcome-unknown", status: 200 });
  });

  it.each([
    ["longer", "abcdef"],
    ["shorter", "ab"],
  ])("never ends well when its answer is %s than it said", async (_what, body) => {
    await using at = await start(answering(200, body, ["content-length", "4"]));
    using caller = new FrameCaller(at.port);
    caller.send(request(1, GET));
    await until(() => caller.resets(1).length > 0, "it is cut");

    expect(caller.resets(1)).toEqual([CODE.internal]);
    expect(caller.endedWell(1)).toBe(false);
  });

  it("is answered 502 when the cluster's header is not valid HTTP", async () => {
    await using at = await start(answering(200, "x", ["x-a", "1\n2"]));
    await using caller = new Http2Caller(at.port);
    const got = await caller.get("/api");

    expect(got.status).toBe(502);
    expect(textOf(got)).toContain("not valid HTTP");
  });

  it("is cancelled at its agent at once when the caller resets it, and an upload then never looks whole", async () => {
    const ends: string[] = [];
    await using at = await start(() => ({
      data() {},
      end: () => ends.push("end"),
      reset: ({ failure: { code } }) => ends.push(code),
    }));
    for (const code of [constants.NGHTTP2_CANCEL, constants.NGHTTP2_NO_ERROR, constants.NGHTTP2_INTERNAL_ERROR]) {
      using frames = new FrameCaller(at.port);
      const post: Fields = [
        [":method", "POST"],
        [":path", "/api/v1/x"],
        [":authority", "kas"],
      ];
      frames.send(request(1, post, false), frame(FRAME.data, 0, 1, Buffer.alloc(200_000 % 16_000)));
      await until(() => at.kas.proxy.activeRequests === 1, "it runs");
      const before = ends.length;
      const payload = Buffer.alloc(4);
      payload.writeUInt32BE(code);
      frames.send(frame(FRAME.reset, 0, 1, payload));
      await until(() => ends.length > before && at.kas.proxy.activeRequests === 0, "it is cancelled");
    }

    expect(ends).toEqual(["cancelled", "cancelled", "cancelled"]);
    expect(at.kas.records.map(({ outcome }) => outcome)).toEqual(Array(3).fill("client_error"));
  });

  it("is cancelled when its connection is lost, while its upload waits for its agent", async () => {
    let reset = "";
    await using at = await start(
      () => ({
        reset({ failure: { code } }) {
          reset = code;
        },
      }),
      {},
      16_384,
    );
    const caller = new Http2Caller(at.port);
    const got = caller.ask({ ":method": "POST", ":path": "/api/v1/x" }, { open: true });
    got.stream.write(Buffer.alloc(600_000));
    await until(() => (at.kas.router.ingress[0]?.queued ?? 0) > 0, "it waits");
    caller.session.destroy();
    await until(() => reset !== "", "its agent hears of it");

    expect(reset).toBe("cancelled");
  });

  it("is found when its caller takes it back without an error and without reading it", async () => {
    await using at = await start(sending(Buffer.alloc(MIB)), { keepAliveTimeout: 200, headersTimeout: 200 }, 4 * MIB);
    using caller = new FrameCaller(at.port);
    caller.send(request(1, GET));
    await until(() => caller.of(FRAME.data, 1).length > 3, "its window is full");
    caller.send(frame(FRAME.reset, 0, 1, Buffer.alloc(4)));
    await until(() => at.kas.proxy.activeRequests === 0, "it is found");
    expect(at.kas.records[0]).toMatchObject({ status: 200, failure: "cancelled" });
  });

  it("is cut at once while its caller takes nothing of it", async () => {
    await using at = await start(sending(Buffer.alloc(MIB)));
    using caller = new FrameCaller(at.port);
    caller.send(request(1, GET));
    await until(() => caller.of(FRAME.data, 1).length > 3, "its window is full");
    at.kas.access.revoke("agent");
    await until(() => caller.resets(1).length > 0 && at.kas.proxy.activeRequests === 0, "it is cut");

    expect(caller.resets(1)).toEqual([CODE.internal]);
    expect(at.kas.records[0]).toMatchObject({ failure: "unauthenticated", status: 200 });
  });

  it("ends when its token is revoked: refused before its head, cut after it", async () => {
    await using at = await start((asked, stream) => {
      if (asked.path === "/api/watch") stream.head(head(200));
      return {};
    });
    using caller = new FrameCaller(at.port);
    caller.send(
      request(1, GET),
      request(3, [
        [":method", "GET"],
        [":path", "/api/watch"],
        [":authority", "kas"],
      ]),
    );
    await until(() => caller.of(FRAME.headers, 3).length > 0, "it watches");
    at.kas.access.revoke("agent");
    await until(() => caller.endedWell(1) && caller.resets(3).length > 0, "both end");

    expect(at.kas.records.map(({ failure: code }) => code)).toEqual(["unauthenticated", "unauthenticated"]);
    expect(caller.resets(3)).toEqual([CODE.internal]);
  });

  it("that nobody reads holds up neither the others nor more than its window at its agent", async () => {
    const big = randomBytes(4 * MIB);
    const streams: Stream[] = [];
    await using at = await start((asked, stream) => {
      streams.push(stream);
      return asked.path === "/api/big" ? sending(big)(asked, stream) : answering(200, "small")(asked, stream);
    });
    await using caller = new Http2Caller(at.port);
    const stalled = caller.ask({ ":path": "/api/big" }, { read: false });
    await until(() => stalled.status === 200, "it begins");
    for (let i = 0; i < 20; i++) expect(textOf(await caller.get(`/api/${i}`))).toBe("small");
    const held = at.kas.router.agent[0]?.queued ?? 0;
    stalled.stream.on("data", (chunk: Buffer) => stalled.chunks.push(chunk));
    await over(stalled);

    expect(held).toBeGreaterThan(0);
    expect(sha256(Buffer.concat(stalled.chunks))).toBe(sha256(big));
  });

  it("whose body its agent does not take holds up no other's", async () => {
    const release: (() => void)[] = [];
    await using at = await start((asked, stream) => {
      if (asked.path !== "/api/v1/slow") return echoing(asked, stream);
      let got = 0;
      let waiting = 0;
      release.push(() => {
        const bytes = waiting;
        waiting = -1;
        stream.consumed(bytes);
      });
      return {
        data(bytes) {
          got += bytes.length;
          if (waiting < 0) stream.consumed(bytes.length);
          else waiting += bytes.length;
        },
        end: () => answering(200, String(got))(asked, stream),
      };
    });
    await using caller = new Http2Caller(at.port);
    const slow = caller.ask({ ":method": "POST", ":path": "/api/v1/slow" }, { open: true });
    slow.stream.end(Buffer.alloc(3 * MIB));
    await until(() => (at.kas.router.ingress[0]?.queued ?? 0) > 0, "it waits");
    const body = randomBytes(3 * MIB);
    const quick = caller.ask({ ":method": "POST", ":path": "/api/v1/quick" }, { open: true });
    quick.stream.end(body);
    await over(quick);
    expect(sha256(Buffer.concat(quick.chunks))).toBe(sha256(body));
    release[0]?.();
    await over(slow);

    expect(textOf(slow)).toBe(String(3 * MIB));
  });

  it("gets all of a large answer that came before its body ended, and only then the reset", async () => {
    const big = randomBytes(2 * MIB);
    await using at = await start(sending(big), {}, 4 * MIB);
    await using caller = new Http2Caller(at.port);
    const got = caller.ask({ ":method": "POST", ":path": "/api/v1/x" }, { open: true, read: false });
    got.stream.write("a beginning");
    await until(() => got.status === 200, "it begins");
    got.stream.on("data", (chunk: Buffer) => got.chunks.push(chunk));
    await over(got);

    expect(sha256(Buffer.concat(got.chunks))).toBe(sha256(big));
    expect([got.ended, got.stream.rstCode]).toEqual([true, 0]);
  });

  it("is told to send no more once its answer is whole, and its agent is told the same", async () => {
    let reset = "";
    await using at = await start((asked, stream) => {
      answering(200, "enough")(asked, stream);
      return {
        reset({ failure: { code } }) {
          reset = code;
        },
      };
    });
    using caller = new FrameCaller(at.port);
    const post: Fields = [
      [":method", "POST"],
      [":path", "/api/v1/x"],
      [":authority", "kas"],
    ];
    caller.send(request(1, post, false), frame(FRAME.data, 0, 1, Buffer.alloc(1000)));
    await until(() => caller.resets(1).length > 0 && reset !== "", "it is told");

    expect(caller.resets(1)).toEqual([CODE.none]);
    expect(caller.endedWell(1)).toBe(true);
    await until(() => at.kas.records.length === 1, "it is recorded");
    expect(at.kas.records[0]).toMatchObject({ status: 200, failure: "", bytesOut: 6 });
  });
});

describe("an HTTP/2 connection", () => {
  it("says what it takes, and keeps to it where connections of agents are widened", async () => {
    using _wide = widenServerWindows();
    await using at = await start(answering(200));
    using caller = new FrameCaller(at.port);
    caller.send(request(1, GET));
    await until(() => caller.endedWell(1), "it is answered");
    caller.send(frame(FRAME.ping, 0, 0, Buffer.alloc(8)));
    await until(() => caller.of(FRAME.ping).length > 0, "nothing else is on its way");

    const told = caller.of(FRAME.settings).filter(({ flags }) => flags === 0);
    const settings = new Map<number, number>();
    for (const { payload } of told) {
      for (let i = 0; i < payload.length; i += 6) settings.set(payload.readUInt16BE(i), payload.readUInt32BE(i + 2));
    }
    const [streams, window, headers] = [3, 4, 6].map((id) => settings.get(id));
    expect({ streams, window, headers }).toEqual({ streams: 250, window: MIB, headers: 64 * 1024 });
    const widened = caller.of(FRAME.windowUpdate, 0).map(({ payload }) => payload.readUInt32BE(0));
    expect(widened).toEqual([8 * MIB - 65_535]);
  });

  it("that is drained says which request was its last, serves what runs and closes after it", async () => {
    let finish = () => {};
    await using at = await start((_asked, stream) => {
      stream.head(head(200));
      finish = () => stream.end();
      return {};
    });
    using caller = new FrameCaller(at.port);
    caller.send(request(1, GET));
    await until(() => caller.of(FRAME.headers, 1).length > 0, "it runs");
    at.kas.proxy.drain();
    await until(() => caller.goaways().length > 0, "it is told");
    caller.send(request(3, GET));
    finish();
    await until(() => caller.closed, "it closes");

    expect(caller.goaways()[0]).toEqual({ code: CODE.none, last: 1 });
    expect(caller.endedWell(1)).toBe(true);
    expect(at.kas.router.requests.length).toBe(1);
  });

  it("that is idle while the proxy drains is told so, and closed a little later", async () => {
    await using at = await start(answering(200), { idleGrace: 50 });
    using caller = new FrameCaller(at.port);
    caller.send(request(1, GET));
    await until(() => at.kas.records.length === 1, "it was used");
    at.kas.proxy.drain();
    await until(() => caller.closed && at.kas.proxy.openSockets === 0, "it is closed");

    expect(caller.goaways()[0]).toEqual({ code: CODE.none, last: 1 });
  });

  it("that comes while the proxy drains is served one request, and told to go elsewhere with the next", async () => {
    await using at = await start(answering(200));
    at.kas.proxy.drain();
    using caller = new FrameCaller(at.port);
    caller.send(request(1, GET));
    await until(() => caller.closed, "it is closed");

    expect(caller.endedWell(1)).toBe(true);
    expect(caller.goaways()[0]).toEqual({ code: CODE.none, last: 1 });
  });

  it.each([
    ["was used", true],
    ["never was", false],
  ])("that %s is closed when it is idle for too long", async (_what, used) => {
    await using at = await start(answering(200), { keepAliveTimeout: 50, headersTimeout: 50 });
    using caller = new FrameCaller(at.port);
    if (used) caller.send(request(1, GET));
    await until(() => caller.closed && at.kas.proxy.openSockets === 0, "it is closed");

    expect(caller.goaways()[0]?.code).toBe(CODE.none);
  });

  it("whose caller ends it cancels what runs", async () => {
    await using at = await start(SILENT);
    using caller = new FrameCaller(at.port);
    caller.send(request(1, GET));
    await until(() => at.kas.proxy.activeRequests === 1, "it runs");
    caller.socket.end();
    await until(() => at.kas.proxy.activeRequests === 0 && at.kas.proxy.openSockets === 0, "nothing is left");

    expect(at.kas.records[0]).toMatchObject({ failure: "cancelled", status: 0 });
  });

  it("is over with everything on it when the proxy is disposed", async () => {
    await using at = await start(SILENT);
    using caller = new FrameCaller(at.port);
    caller.send(request(1, GET), request(3, GET));
    await until(() => at.kas.proxy.activeRequests === 2, "they run");
    await at.kas.proxy[Symbol.asyncDispose]();

    expect([at.kas.proxy.activeRequests, at.kas.proxy.openSockets]).toEqual([0, 0]);
  });

  it.each([
    ["pings", () => frame(FRAME.ping, 0, 0, Buffer.alloc(8))],
    ["settings", () => frame(FRAME.settings, 0, 0, Buffer.from([0, 4, 0, 0, 255, 255]))],
    [
      "requests that are taken back",
      (n: number) =>
        Buffer.concat([request(2 * n + 1, GET), frame(FRAME.reset, 0, 2 * n + 1, Buffer.from([0, 0, 0, 8]))]),
    ],
  ])("that floods with %s is closed, and that is recorded", async (_what, piece) => {
    await using at = await start(SILENT, { maxNuisance: 100 });
    using caller = new FrameCaller(at.port);
    for (let n = 0; n < 150; n++) caller.send(piece(n));
    await until(() => caller.closed && at.kas.proxy.openSockets === 0, "it is closed");

    expect(caller.goaways().at(-1)?.code).toBe(CODE.calm);
    expect(at.kas.records.filter(({ failure: code }) => code === "busy").length).toBe(1);
  });

  it("that makes us reset its own requests is closed, and nothing of it is left at an agent", async () => {
    await using at = await start(SILENT);
    using caller = new FrameCaller(at.port);
    for (let n = 0; n < 50; n++) {
      caller.send(request(2 * n + 1, GET), frame(FRAME.windowUpdate, 0, 2 * n + 1, TOO_WIDE));
    }
    await until(() => caller.closed && at.kas.proxy.openSockets === 0, "it is closed");

    expect(at.kas.router.requests.length).toBeLessThan(50);
    expect(at.kas.proxy.activeRequests).toBe(0);
  });

  it("that is not HTTP/2 after all is closed, and that is recorded", async () => {
    await using at = await start(SILENT);
    using caller = new FrameCaller(at.port);
    caller.send(frame(FRAME.data, 0, 0, Buffer.alloc(10)));
    await until(() => caller.closed && at.kas.proxy.openSockets === 0, "it is closed");

    expect(at.kas.records[0]).toMatchObject({ protocol: "h2", failure: "invalid", status: 0 });
  });
});
