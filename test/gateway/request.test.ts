import { status } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import { Gateway } from "../../src/gen/kas/gateway/v1/gateway_pb.ts";
import { failureCode, startRails, type TestRails, until } from "./rails.ts";

const MiB = 1024 * 1024;

describe("Gateway.Request", () => {
  let rails: TestRails;
  beforeEach(async () => {
    rails = await startRails();
  });
  afterEach(async () => {
    await rails[Symbol.asyncDispose]();
    expect({ streams: rails.router.streams, sockets: rails.sockets.size, bugs: rails.bugs }).toEqual({
      streams: 0,
      sockets: 0,
      bugs: [],
    });
  });

  it("carries the request as it is and answers with status, headers, body and trailers", async () => {
    rails.router.on("/echo", async (served) => {
      const body = [];
      for (let piece = await served.read(); piece; piece = await served.read()) body.push(piece);
      served.head(201, ["x-one", "1", "x-one", "2"]);
      await served.data(Buffer.concat(body));
      served.trailer(0, "", ["x-end", "ü"]);
      served.end();
    });

    const { replies, status: ended } = await rails.request({
      target: { kind: { case: "service", value: "prometheus" } },
      method: "POST",
      path: "/echo?q=%2F+a",
      headers: [
        { name: "Accept", value: "text/plain" },
        { name: "Connection", value: "close" },
      ],
      body: Buffer.from("hello"),
      impersonate: { user: "alice", groups: ["devs"], extra: [{ key: "k", values: ["v"] }] },
      actor: "user 5",
    });

    expect(ended.code).toBe(status.OK);
    expect(replies).toMatchObject([
      {
        status: 201,
        headers: [
          { name: "x-one", value: "1" },
          { name: "x-one", value: "2" },
        ],
        body: Buffer.from("hello"),
        trailers: [{ name: "x-end", value: "ü" }],
      },
    ]);
    expect(rails.router.requests).toMatchObject([
      {
        agentId: 7,
        kind: "http",
        target: { type: "service", name: "prometheus" },
        method: "POST",
        path: "/echo?q=%2F+a",
        headers: ["accept", "text/plain", "content-length", "5"],
        idempotent: false,
        upgrade: false,
        class: "unary",
        acceptWithin: 20_000,
        timeLeft: 0,
        caller: {
          kind: "rails",
          id: "user 5",
          as: { user: "alice", groups: ["devs"], uid: "", extra: [["k", ["v"]]] },
        },
      },
    ]);
    expect(rails.called).toEqual([{ method: "kas.gateway.v1.Gateway/Request", status: "OK" }]);
  });

  it("gives the answer of the API server as an OK call, whatever its status", async () => {
    rails.router.on("/gone", (served) => {
      served.head(404);
      served.end();
    });

    const { replies, status: ended } = await rails.request({ path: "/gone" });

    expect(ended.code).toBe(status.OK);
    expect(replies).toMatchObject([{ status: 404, body: { length: 0 } }]);
  });

  it("takes the caller's deadline as what is left, and at most 20 s of it to be accepted", async () => {
    rails.router.on("/", (served) => {
      served.head(204);
      served.end();
    });

    await rails.request({ path: "/" }, { deadline: 5_000 });
    await rails.request({ path: "/" }, { deadline: 60_000 });

    const [short, long] = rails.router.requests;
    expect(short?.timeLeft).toBeGreaterThan(3_000);
    expect(short?.timeLeft).toBeLessThanOrEqual(5_000);
    expect(short?.acceptWithin).toBe(short?.timeLeft);
    expect(long?.timeLeft).toBeGreaterThan(50_000);
    expect(long?.acceptWithin).toBe(20_000);
  });

  it("ends with the failure's status, its code as a trailer", async () => {
    rails.router.on("/broken", (served) => {
      served.head(200);
      served.fail(failure("outcome-unknown", "the link broke"));
    });

    const offline = await rails.request({ agentId: 8n, path: "/" });
    const broken = await rails.request({ path: "/broken" });

    expect(offline.status).toMatchObject({ code: status.UNAVAILABLE, details: "agent 8 is not connected" });
    expect(failureCode(offline.status)).toBe("agent-offline");
    expect(broken).toMatchObject({ replies: [], status: { code: status.ABORTED, details: "the link broke" } });
    expect(failureCode(broken.status)).toBe("outcome-unknown");
  });

  it("carries messages of 4 MiB both ways and refuses larger ones with `too-large`", async () => {
    rails.router.on("/size", async (served) => {
      let received = 0;
      for (let piece = await served.read(); piece; piece = await served.read()) received += piece.length;
      served.head(200, ["x-received", String(received)]);
      await served.data(Buffer.alloc(Number(served.request.path.split("?")[1])));
      served.end();
    });

    const whole = await rails.request({
      method: "POST",
      path: `/size?${4 * MiB - 100}`,
      body: Buffer.alloc(4 * MiB - 100),
    });
    const answer = await rails.request({ path: `/size?${4 * MiB}` });
    const question = await rails.request({ method: "POST", path: "/size?0", body: Buffer.alloc(4 * MiB) });
    const flood = await rails.request({ method: "POST", path: "/size?0", body: Buffer.alloc(5 * MiB) });

    expect(whole.status.code).toBe(status.OK);
    expect(whole.replies[0]?.body.length).toBe(4 * MiB - 100);
    expect(whole.replies[0]?.headers).toMatchObject([{ name: "x-received", value: String(4 * MiB - 100) }]);
    for (const { status: ended } of [answer, question]) {
      expect(ended.code).toBe(status.RESOURCE_EXHAUSTED);
      expect(failureCode(ended)).toBe("too-large");
      expect(ended.details).toContain("Stream");
    }
    expect(flood.status.code).toBe(status.RESOURCE_EXHAUSTED);
    expect(rails.router.requests).toHaveLength(2);
  });

  it("stops a stream that answers more than 4 MiB at once", async () => {
    rails.router.on("/endless", async (served) => {
      served.head(200);
      while (!served.over) await served.data(Buffer.alloc(MiB));
    });

    const { status: ended } = await rails.request({ path: "/endless" });

    expect(failureCode(ended)).toBe("too-large");
    expect(rails.router.resets).toMatchObject([{ failure: { code: "too-large" }, unprocessed: false }]);
  });

  it("refuses requests that are at fault, and says where", async () => {
    const faults = [
      [{ agentId: 0n, path: "/" }, "agent_id"],
      [{ agentId: 2n ** 60n, path: "/" }, "agent_id"],
      [{ path: "api" }, "path"],
      [{ path: "/a b" }, "path"],
      [{ path: "/a\r\nx: y" }, "path"],
      [{ path: "/", method: "GET /" }, "method"],
      [{ path: "/", headers: [{ name: "a b", value: "" }] }, "header name"],
      [{ path: "/", headers: [{ name: "a", value: "x\r\nb: c" }] }, "line break"],
      [{ path: "/", headers: [{ name: "Impersonate-User", value: "root" }] }, "impersonate"],
      [{ path: "/", headers: [{ name: "Authorization", value: "Bearer x" }] }, "authorization"],
      [{ path: "/", headers: [{ name: "Upgrade", value: "websocket" }] }, "Stream"],
      [{ path: "/", impersonate: { groups: ["g"] } }, "impersonate.user"],
      [{ path: "/", target: { kind: { case: "service" as const, value: "" } } }, "target.service"],
      [{ path: "/", actor: "x".repeat(1025) }, "actor"],
    ] as const;
    for (const [fault, where] of faults) {
      const { status: ended } = await rails.request(fault as Parameters<typeof rails.request>[0]);
      expect(ended.details).toContain(where);
      expect(ended.code).toBe(status.INVALID_ARGUMENT);
      expect(failureCode(ended)).toBe("invalid");
    }
    const garbage = await rails.bytes("/kas.gateway.v1.Gateway/Request", [Buffer.from([0x0a, 0xff])]);
    expect(garbage.status.code).toBe(status.INVALID_ARGUMENT);
    const nothing = await rails.call(Gateway.method.request, []);
    expect(nothing.status.code).toBe(status.INVALID_ARGUMENT);
    expect(rails.router.requests).toEqual([]);
  });

  it("resets the stream at once when the caller leaves", async () => {
    rails.router.on("/slow", () => {});
    const path = "/kas.gateway.v1.Gateway/Request";
    const call = rails.open(path);
    const { request } = Gateway.method;
    const { create, toBinary } = await import("@bufbuild/protobuf");
    call.write(
      Buffer.from(toBinary(request.input, create(request.input, { agentId: 7n, method: "GET", path: "/slow" }))),
    );
    await until(() => rails.router.streams === 1);

    call.cancel();

    await until(() => rails.router.streams === 0);
    expect(rails.router.resets).toMatchObject([{ failure: { code: "cancelled" }, unprocessed: false }]);
    await until(() => rails.called.length === 1);
    expect(rails.called[0]?.status).toBe("CANCELLED");
  });

  it("resets the stream when the deadline passes", async () => {
    rails.router.on("/slow", () => {});

    const { status: ended } = await rails.request({ path: "/slow" }, { deadline: 100 });

    expect(ended.code).toBe(status.DEADLINE_EXCEEDED);
    await until(() => rails.router.streams === 0);
    await until(() => rails.called.length === 1);
    expect(rails.called[0]?.status).toMatch(/DEADLINE_EXCEEDED|CANCELLED/);
  });

  it("ends an answer that breaks the protocol with `protocol`", async () => {
    rails.router.on("/bad", (served) => {
      served.head(-1, ["x"]);
      served.end();
    });
    const { status: ended, replies } = await rails.request({ path: "/bad" });
    expect([ended.code, replies.length]).toEqual([status.INTERNAL, 0]);
    expect(failureCode(ended)).toBe("protocol");
  });
});
