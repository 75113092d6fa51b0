import { status } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import { frameMessage, MessageAssembler } from "../../src/grpc/framing.ts";
import type { Served } from "./fake-router.ts";
import { failureCode, startRails, statusOf, type TestRails, until } from "./rails.ts";

const MiB = 1024 * 1024;
const TO_7 = { "kas-agent-id": "7" };

/** Sends back every message, reassembled and cut anew, and then a status. */
async function echo(served: Served): Promise<void> {
  const messages: Buffer[] = [];
  const assembler = new MessageAssembler(8 * MiB);
  served.head(0, ["x-initial", "yes", "x-raw-bin", Buffer.from([0, 255]).toString("base64")]);
  for (let piece = await served.read(); piece; piece = await served.read()) {
    assembler.push(piece, (message) => messages.push(message));
    for (const message of messages.splice(0)) {
      for (const framed of frameMessage(message)) await served.data(framed);
    }
  }
  served.trailer(0, "", ["x-final", "done"]);
  served.end();
}

describe("raw routing", () => {
  let rails: TestRails;
  beforeEach(async () => {
    rails = await startRails();
    rails.router.on("/acme.Shop/Echo", echo);
  });
  afterEach(async () => {
    await rails[Symbol.asyncDispose]();
    expect({ streams: rails.router.streams, sockets: rails.sockets.size, bugs: rails.bugs }).toEqual({
      streams: 0,
      sockets: 0,
      bugs: [],
    });
  });

  it("carries a call of any method to the agent named in its metadata", async () => {
    const metadata = { ...TO_7, "x-tenant": "t1", "x-key-bin": Buffer.from([1, 200]), "kas-idempotent": "true" };

    const outcome = await rails.bytes("/acme.Shop/Echo", [Buffer.from("hello")], { metadata, deadline: 10_000 });

    expect(outcome.status.code).toBe(status.OK);
    expect(outcome.replies.map(String)).toEqual(["hello"]);
    expect(outcome.headers?.get("x-initial")).toEqual(["yes"]);
    expect(outcome.headers?.get("x-raw-bin")).toEqual([Buffer.from([0, 255])]);
    expect(outcome.status.metadata.get("x-final")).toEqual(["done"]);
    const [request] = rails.router.requests;
    expect(request).toMatchObject({
      agentId: 7,
      kind: "grpc",
      target: { type: "grpc" },
      method: "/acme.Shop/Echo",
      path: "",
      idempotent: true,
      class: "bulk",
    });
    expect(request?.headers).toEqual(expect.arrayContaining(["x-tenant", "t1", "x-key-bin", "Acg="]));
    const names = request?.headers.filter((_, i) => i % 2 === 0) ?? [];
    expect(names.filter((name) => /^(authorization|kas-|grpc-|te$|content-type)/.test(name))).toEqual([]);
    expect(request?.timeLeft).toBeGreaterThan(8_000);
    expect(rails.called).toEqual([{ method: "_OTHER", status: "OK" }]);
  });

  it("carries messages both ways while the call is open", async () => {
    const call = rails.open("/acme.Shop/Echo", { metadata: TO_7 });
    const replies: string[] = [];
    call.on("data", (reply: Buffer) => replies.push(reply.toString()));
    const ended = statusOf(call);

    for (const word of ["one", "two", ""]) {
      const before = replies.length;
      call.write(Buffer.from(word));
      await until(() => replies.length === before + 1);
      expect(replies.at(-1)).toBe(word);
    }
    call.end();

    expect((await ended).code).toBe(status.OK);
  });

  it("carries messages of 4 MiB and refuses one byte more in either direction", async () => {
    rails.router.on("/acme.Shop/Big", async (served) => {
      served.head(0);
      const [prefix] = frameMessage(Buffer.alloc(4 * MiB + 1));
      await served.data(prefix ?? Buffer.alloc(0));
    });

    const whole = await rails.bytes("/acme.Shop/Echo", [Buffer.alloc(4 * MiB, "ab"), Buffer.alloc(4 * MiB)], {
      metadata: TO_7,
    });
    const up = await rails.bytes("/acme.Shop/Echo", [Buffer.alloc(4 * MiB + 1)], { metadata: TO_7 });
    const down = await rails.bytes("/acme.Shop/Big", [], { metadata: TO_7 });

    expect(whole.status.code).toBe(status.OK);
    expect(whole.replies.map(({ length }) => length)).toEqual([4 * MiB, 4 * MiB]);
    expect(whole.replies[0]?.equals(Buffer.alloc(4 * MiB, "ab"))).toBe(true);
    for (const { status: ended } of [up, down]) {
      expect([ended.code, failureCode(ended)]).toEqual([status.RESOURCE_EXHAUSTED, "too-large"]);
    }
    expect(rails.router.resets).toMatchObject([{ failure: { code: "too-large" } }, { failure: { code: "too-large" } }]);
  });

  it("passes the agent's status on untouched, and only ours has a failure code", async () => {
    const details = Buffer.from("rich error");
    rails.router
      .on("/acme.Shop/Refuse", (served) => {
        const metadata = ["failure-code", "busy", "grpc-status-details-bin", details.toString("base64")];
        served.trailer(9, "not now: 100 % full\n", metadata);
        served.end();
      })
      .on("/acme.Shop/Odd", (served) => {
        served.trailer(99, "odd");
        served.end();
      })
      .on("/acme.Shop/Lost", (served) => served.fail(failure("outcome-unknown", "the link broke")));

    const refused = await rails.bytes("/acme.Shop/Refuse", [], { metadata: TO_7 });
    const odd = await rails.bytes("/acme.Shop/Odd", [], { metadata: TO_7 });
    const lost = await rails.bytes("/acme.Shop/Lost", [], { metadata: TO_7 });

    expect(refused.status).toMatchObject({ code: 9, details: "not now: 100 % full\n" });
    expect(failureCode(refused.status)).toBe("");
    expect(refused.status.metadata.get("grpc-status-details-bin")).toEqual([details]);
    expect(odd.status).toMatchObject({ code: status.UNKNOWN, details: "odd" });
    expect([lost.status.code, failureCode(lost.status)]).toEqual([status.ABORTED, "outcome-unknown"]);
  });

  it("ends a call with `protocol` when the agent breaks gRPC's rules", async () => {
    rails.router
      .on("/acme.Shop/NoStatus", (served) => served.end())
      .on("/acme.Shop/Half", async (served) => {
        await served.data(Buffer.from([0, 0, 0, 0, 9, 1]));
        served.trailer(0);
        served.end();
      })
      .on("/acme.Shop/Compressed", (served) => served.data(Buffer.from([1, 0, 0, 0, 1, 1])))
      .on("/acme.Shop/Header", (served) => served.head(0, ["a b", "c"]));

    for (const method of ["NoStatus", "Half", "Compressed", "Header"]) {
      const { status: ended } = await rails.bytes(`/acme.Shop/${method}`, [], { metadata: TO_7 });
      expect([ended.code, failureCode(ended)]).toEqual([status.INTERNAL, "protocol"]);
    }
  });

  it("answers UNIMPLEMENTED to a method it does not know when no agent is named", async () => {
    const outcome = await rails.bytes("/acme.Shop/Echo", [Buffer.from("x")]);

    expect(outcome.status.code).toBe(status.UNIMPLEMENTED);
    expect(outcome.status.details).toContain("kas-agent-id");
    expect(rails.router.requests).toEqual([]);
  });

  it("refuses an agent id that is not one, and callers without a token", async () => {
    for (const id of ["", "0", "-7", "7 7", "seven", "99999999999999999999"]) {
      const { status: ended } = await rails.bytes("/acme.Shop/Echo", [], { metadata: { "kas-agent-id": id } });
      expect([id, ended.code]).toEqual([id, status.INVALID_ARGUMENT]);
    }
    const anonymous = await rails.bytes("/acme.Shop/Echo", [], { metadata: TO_7, token: "" });
    expect(anonymous.status.code).toBe(status.UNAUTHENTICATED);
    expect(rails.router.requests).toEqual([]);
  });

  it("resets the stream at once when the caller leaves", async () => {
    rails.router.on("/acme.Shop/Silent", () => {});
    const call = rails.open("/acme.Shop/Silent", { metadata: TO_7 });
    call.on("data", () => {});
    await until(() => rails.router.streams === 1);

    call.cancel();

    await until(() => rails.router.streams === 0);
    expect(rails.router.resets).toMatchObject([{ failure: { code: "cancelled" } }]);
  });
});
