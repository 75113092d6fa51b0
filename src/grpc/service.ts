/** Between protobuf-es's descriptors and grpc-js: paths, definitions whose codecs pass bytes through, and answers for the simple kinds of method. */
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import type { ServiceDefinition } from "@grpc/grpc-js";
import { failed } from "../failed.ts";
import { type Answer, type CallHandler, OK, type ServerCall } from "./call.ts";

/** `/package.Service/Method`, as HTTP/2 has it. */
export const methodPath = (method: DescMethod): string => `/${method.parent.typeName}/${method.name}`;

const identity = (bytes: Buffer): Buffer => bytes;

/** For grpc-js clients and servers that deal in bytes; methods go by their `localName`. */
export function serviceDefinition(service: DescService): ServiceDefinition {
  const streams = (method: DescMethod, kind: "client_streaming" | "server_streaming") =>
    method.methodKind === kind || method.methodKind === "bidi_streaming";
  return Object.fromEntries(
    service.methods.map((method) => [
      method.localName,
      {
        path: methodPath(method),
        originalName: method.localName,
        requestStream: streams(method, "client_streaming"),
        responseStream: streams(method, "server_streaming"),
        requestSerialize: identity,
        requestDeserialize: identity,
        responseSerialize: identity,
        responseDeserialize: identity,
      },
    ]),
  );
}

/** Bytes to a message; what is not one is the caller's fault. */
export function decode<Schema extends DescMessage>(schema: Schema, bytes: Uint8Array): MessageShape<Schema> {
  try {
    return fromBinary(schema, bytes);
  } catch (cause) {
    throw failed("invalid", `the message is not a ${schema.typeName}: generate the client from the same proto`, cause);
  }
}

export const encode = <Schema extends DescMessage>(schema: Schema, message: MessageInitShape<Schema>): Uint8Array =>
  toBinary(schema, create(schema, message));

/** Reads the only request message of a call and begins with it. */
export function single(call: ServerCall, begin: (bytes: Buffer) => void, closed: () => void): CallHandler {
  let begun = false;
  call.read();
  return {
    message(bytes) {
      if (begun) return;
      begun = true;
      begin(bytes);
    },
    end() {
      if (!begun) throw failed("invalid", `${call.path} takes one message and the call had none`);
    },
    closed,
  };
}

/** One message in, one out. */
export function unary<In extends DescMessage, Out extends DescMessage>(
  method: DescMethod & { readonly input: In; readonly output: Out },
  run: (request: MessageShape<In>, call: ServerCall) => Promise<MessageInitShape<Out>>,
): Answer {
  const answer = async (bytes: Buffer, call: ServerCall) => {
    const reply = encode(method.output, await run(decode(method.input, bytes), call));
    call.send(reply, () => {});
    call.finish(OK);
  };
  return (call) =>
    single(
      call,
      (bytes) => {
        answer(bytes, call).catch((error: unknown) => call.fail(error));
      },
      () => {},
    );
}
