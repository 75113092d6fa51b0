import { create, createFileRegistry, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { makeGenericClientConstructor, status } from "@grpc/grpc-js";
import { generate } from "selfsigned";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Health, HealthCheckResponseSchema } from "../../src/gen/grpc/health/v1/health_pb.ts";
import {
  type ServerReflectionRequestSchema,
  ServerReflection as V1,
} from "../../src/gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as V1Alpha } from "../../src/gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { Gateway } from "../../src/gen/kas/gateway/v1/gateway_pb.ts";
import { methodPath, serviceDefinition } from "../../src/grpc/service.ts";
import { startRails, statusOf, type TestRails, until } from "../gateway/rails.ts";

const GATEWAY = "kas.gateway.v1.Gateway";
type Asked = MessageInitShape<typeof ServerReflectionRequestSchema>["messageRequest"];

describe("services beside the Gateway", () => {
  let rails: TestRails;
  beforeEach(async () => {
    rails = await startRails();
  });
  afterEach(async () => {
    await rails[Symbol.asyncDispose]();
    expect({ sockets: rails.sockets.size, watchers: rails.readiness.changed.size, bugs: rails.bugs }).toEqual({
      sockets: 0,
      watchers: 0,
      bugs: [],
    });
  });

  it("says to anyone whether the node is ready", async () => {
    const open = { token: "" };
    const check = async (service: string) => {
      const outcome = await rails.call(Health.method.check, [{ service }], open);
      return [outcome.status.code, outcome.replies[0]?.status];
    };

    expect(await check("")).toEqual([status.OK, 1]);
    expect(await check(GATEWAY)).toEqual([status.OK, 1]);
    expect(await check("made.Up")).toEqual([status.NOT_FOUND, undefined]);
    rails.readiness.set(false);
    expect(await check("")).toEqual([status.OK, 2]);
  });

  it("tells a watcher of health at once and then of changes only", async () => {
    const call = rails.open(methodPath(Health.method.watch), { token: "" });
    const told: number[] = [];
    call.on("data", (bytes: Buffer) => told.push(fromBinary(HealthCheckResponseSchema, bytes).status));
    const ended = statusOf(call);
    call.write(Buffer.alloc(0));
    call.end();
    await until(() => told.length === 1);
    for (const ready of [true, false, false, true]) {
      rails.readiness.set(ready);
      await until(() => told.at(-1) === (ready ? 1 : 2));
    }

    expect(told).toEqual([1, 2, 1]);
    call.cancel();
    await ended;
    await until(() => rails.readiness.changed.size === 0);
    const unknown = rails.open(methodPath(Health.method.watch), { token: "" });
    unknown.on("data", (bytes: Buffer) => told.push(fromBinary(HealthCheckResponseSchema, bytes).status));
    unknown.write(
      Buffer.from(toBinary(Health.method.watch.input, create(Health.method.watch.input, { service: "x" }))),
    );
    await until(() => told.at(-1) === 3);
    unknown.cancel();
  });

  it("lists its services by reflection, in both versions, to those with a token", async () => {
    for (const { method } of [V1, V1Alpha]) {
      const ask = { messageRequest: { case: "listServices" as const, value: "" } };
      const { replies } = await rails.call(method.serverReflectionInfo, [ask]);
      expect(replies[0]?.messageResponse).toMatchObject({
        case: "listServicesResponse",
        value: {
          service: expect.arrayContaining(
            [GATEWAY, "grpc.health.v1.Health"].map((name) => expect.objectContaining({ name })),
          ),
        },
      });
      const refused = await rails.call(method.serverReflectionInfo, [ask], { token: "" });
      expect(refused.status.code).toBe(status.UNAUTHENTICATED);
    }
  });

  it("describes itself well enough to build the descriptors from", async () => {
    const asked: Asked[] = [
      { case: "fileContainingSymbol", value: `${GATEWAY}.Request` },
      { case: "fileByFilename", value: "kas/gateway/v1/gateway.proto" },
      { case: "fileContainingSymbol", value: "made.Up" },
      { case: "fileContainingExtension", value: { containingType: GATEWAY, extensionNumber: 1 } },
      undefined,
    ];

    const { replies } = await rails.call(
      V1.method.serverReflectionInfo,
      asked.map((messageRequest) => (messageRequest ? { messageRequest } : {})),
    );

    for (const reply of replies.slice(0, 2)) {
      if (reply.messageResponse.case !== "fileDescriptorResponse") expect.unreachable();
      else {
        const file = reply.messageResponse.value.fileDescriptorProto.map((bytes) =>
          fromBinary(FileDescriptorProtoSchema, bytes),
        );
        const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: file.toReversed() }));
        expect(registry.getService(GATEWAY)?.methods.map(({ name }) => name)).toContain("WatchAgents");
      }
    }
    const errors = replies.slice(2).map(({ messageResponse }) => messageResponse.value);
    expect(errors).toMatchObject([{ errorCode: 5 }, { errorCode: 5 }, { errorCode: 3 }]);
  });

  it("lets running calls end when it drains, and refuses new ones", async () => {
    let finish = () => {};
    rails.router.on("/slow", (served) => {
      finish = () => {
        served.head(200);
        served.end();
      };
    });
    const running = rails.request({ path: "/slow" });
    await until(() => rails.router.streams === 1);

    const drained = rails.gateway.drain();
    finish();

    expect((await running).status.code).toBe(status.OK);
    await drained;
    await until(() => rails.sockets.size === 0);
  });
});

it("gives grpc-js a definition whose codecs pass bytes through", async () => {
  const definition = serviceDefinition(Gateway);
  expect(definition).toMatchObject({
    request: { path: `/${GATEWAY}/Request`, requestStream: false, responseStream: false },
    stream: { requestStream: true, responseStream: true },
    watchAgents: { requestStream: false, responseStream: true },
  });
  const bytes = Buffer.from("x");
  expect(definition.request?.requestSerialize(bytes)).toBe(bytes);
  expect(makeGenericClientConstructor(definition, "Gateway")).toBeTypeOf("function");
});

it("takes sockets that were already decrypted", async () => {
  const { private: key, cert } = await generate([{ name: "commonName", value: "localhost" }], { keySize: 2048 });
  await using rails = await startRails({}, { key, cert });
  rails.router.on("/", (served) => {
    served.head(204);
    served.end();
  });

  const { replies } = await rails.request({ path: "/" });

  expect(replies).toMatchObject([{ status: 204 }]);
});
