/** `Gateway.Stream`: which messages go either way, in which order, and how a call ends. */
import { fromBinary } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import { type StreamResponse, StreamResponseSchema } from "../../src/gen/kas/gateway/v1/gateway_pb.ts";
import { failureCode, startRails, statusOf, type TestRails, until } from "./rails.ts";
import { bodyOf, data, endQuiet, head, KiB, message, PATH, type Part, streamOn } from "./stream-parts.ts";

describe("Gateway.Stream", () => {
  let rails: TestRails;
  beforeEach(async () => {
    rails = await startRails();
  });
  afterEach(() => endQuiet(rails));

  const stream = (...parts: Part[]) => streamOn(rails, parts);

  it("answers head, data and trailers in this order and ends with OK", async () => {
    rails.router.on("/echo", async (served) => {
      served.head(200, ["x-a", "1"]);
      for (let piece = await served.read(); piece; piece = await served.read()) await served.data(piece);
      served.trailer(0, "", ["x-end", "yes"]);
      served.end();
    });
    const body = Buffer.alloc(9 * 1024 * KiB, "abcdefg");

    const parts = Array.from({ length: 9 }, (_, i) => data(body.subarray(i * 1024 * KiB, (i + 1) * 1024 * KiB)));
    const { replies, status: ended } = await stream(head("/echo", { method: "PUT" }), ...parts);

    expect(ended.code).toBe(status.OK);
    expect(replies[0]?.part).toMatchObject({
      case: "head",
      value: { status: 200, headers: [{ name: "x-a", value: "1" }] },
    });
    expect(replies.at(-1)?.part).toMatchObject({
      case: "trailers",
      value: { headers: [{ name: "x-end", value: "yes" }] },
    });
    expect(bodyOf(replies).equals(body)).toBe(true);
    expect(rails.router.requests).toMatchObject([{ class: "bulk", upgrade: false, idempotent: false, timeLeft: 0 }]);
  });

  it("tells watches and upgrades from the rest", async () => {
    const done = (served: { head: (status: number) => void; end: () => void }) => {
      served.head(200);
      served.end();
    };
    rails.router.on("/pods", done).on("/exec", done);

    await stream(head("/pods?watch=true"));
    await stream(head("/pods?watching=true"));
    await stream(head("/exec", { headers: [{ name: "Upgrade", value: "websocket" }] }));

    expect(rails.router.requests).toMatchObject([
      { class: "watch", upgrade: false, idempotent: true },
      { class: "bulk", upgrade: false, idempotent: true },
      { class: "interactive", upgrade: true, idempotent: false, headers: ["upgrade", "websocket"] },
    ]);
  });

  it("carries an upgraded connection both ways at once", async () => {
    rails.router.on("/exec", async (served) => {
      served.head(101, ["upgrade", "websocket"]);
      for (let piece = await served.read(); piece; piece = await served.read()) await served.data(piece);
      served.end();
    });
    const call = rails.open(PATH);
    const replies: StreamResponse[] = [];
    call.on("data", (bytes: Buffer) => replies.push(fromBinary(StreamResponseSchema, bytes)));
    const ended = statusOf(call);

    call.write(message(head("/exec", { headers: [{ name: "upgrade", value: "websocket" }] })));
    await until(() => replies.length === 1);
    expect(replies[0]?.part).toMatchObject({ value: { status: 101 } });
    for (const word of ["one", "two"]) {
      const before = replies.length;
      call.write(message(data(Buffer.from(word))));
      await until(() => replies.length === before + 1);
      expect(Buffer.from(replies.at(-1)?.part.value as Uint8Array).toString()).toBe(word);
    }
    call.end();

    expect((await ended).code).toBe(status.OK);
  });

  it("delivers an answer that comes before the body ended, and reads on without keeping", async () => {
    rails.router.on("/early", async (served) => {
      await served.read();
      served.stop();
      served.head(403);
      await served.data(Buffer.from("no"));
      served.end();
    });
    const parts = Array.from({ length: 64 }, () => data(Buffer.alloc(64 * KiB)));

    const { replies, status: ended } = await stream(head("/early", { method: "PUT" }), ...parts);

    expect(ended.code).toBe(status.OK);
    expect(bodyOf(replies).toString()).toBe("no");
  });

  it("ends an answer that is cut off with a status other than OK", async () => {
    rails.router.on("/half", async (served) => {
      served.head(200);
      await served.data(Buffer.from("half"));
      served.fail(failure("outcome-unknown", "the link broke"));
    });

    const { replies, status: ended } = await stream(head("/half"));

    expect(bodyOf(replies).toString()).toBe("half");
    expect(ended).toMatchObject({ code: status.ABORTED, details: "the link broke" });
    expect(failureCode(ended)).toBe("outcome-unknown");
  });

  it("refuses messages out of order", async () => {
    rails.router.on("/", () => {});
    const faults: Part[][] = [[], [data(Buffer.from("x"))], [undefined], [head("/"), head("/")]];
    for (const parts of faults) {
      const { status: ended } = await stream(...parts);
      expect([ended.code, failureCode(ended)]).toEqual([status.INVALID_ARGUMENT, "invalid"]);
    }
    await until(() => rails.router.streams === 0);
  });
});
