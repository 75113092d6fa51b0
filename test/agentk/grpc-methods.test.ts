import { status } from "@grpc/grpc-js";
import { expect, it } from "vitest";
import { builtInMethods, createGrpcMethods } from "../../src/agentk/grpc-methods.ts";
import { Caller } from "./caller.ts";

const methods = createGrpcMethods(builtInMethods({ echo: true }));
const call = (method: string, end = true) =>
  new Caller((open, stream) => methods.serve(open.method, stream), { kind: "grpc", method, path: "" }, { end });

const message = (bytes: Uint8Array): Buffer => {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([prefix, bytes]);
};

it("answers a health check with SERVING", async () => {
  const caller = call("/grpc.health.v1.Health/Check", false);
  const request = message(new Uint8Array());
  caller.stream.data(request.subarray(0, 2));
  caller.stream.data(request.subarray(2));
  caller.stream.end();
  await caller.done();
  expect(caller.wasAccepted).toBe(true);
  expect(Buffer.concat(caller.chunks)).toEqual(message(new Uint8Array([0x08, 0x01])));
  expect(caller.trailer_).toMatchObject({ status: status.OK });
});

it("answers a method it does not serve with UNIMPLEMENTED and its name", async () => {
  const caller = await call("/x.Y/Z").done();
  expect(caller.trailer_).toMatchObject({
    status: status.UNIMPLEMENTED,
    message: "this agent serves no method /x.Y/Z: check its version",
  });
});

it("serves the echo only where it is enabled", async () => {
  const plain = createGrpcMethods(builtInMethods({ echo: false }));
  const caller = await new Caller((open, stream) => plain.serve(open.method, stream), {
    kind: "grpc",
    method: "/kas.agent.v1.Echo/Echo",
  }).done();
  expect(caller.trailer_?.status).toBe(status.UNIMPLEMENTED);
});

it("echoes messages of 4 MiB while more come, holding no more than the window", async () => {
  const caller = call("/kas.agent.v1.Echo/Echo", false);
  const one = message(Buffer.alloc(4 * 1024 * 1024, 7));
  caller.stream.data(one);
  await caller.until((c) => c.bytes === one.length);
  caller.stream.data(message(Buffer.from("more")));
  caller.stream.end();
  await caller.done();
  expect(Buffer.concat(caller.chunks).equals(Buffer.concat([one, message(Buffer.from("more"))]))).toBe(true);
  expect(caller.stream.mostOutstanding).toBeLessThanOrEqual(64 * 1024);
  expect(caller.trailer_?.status).toBe(status.OK);
});

it("refuses a unary message that is too large, or not one message", async () => {
  const large = call("/grpc.health.v1.Health/Check", false);
  large.stream.data(message(Buffer.alloc(4 * 1024 * 1024 + 1)));
  await large.done();
  expect(large.reset_).toMatchObject({ unprocessed: false, failure: { code: "too-large" } });

  const cut = call("/grpc.health.v1.Health/Check", false);
  cut.stream.data(message(Buffer.from("abc")).subarray(0, 6));
  cut.stream.end();
  await cut.done();
  expect(cut.trailer_?.status).toBe(status.INVALID_ARGUMENT);
});
