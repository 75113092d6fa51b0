/**
 * The gRPC methods that the agent itself serves, by full name. A method sees the plain gRPC byte stream (5-byte prefix and
 * message, cut anywhere) and owes its stream a TRAILER and END; what is not registered is answered UNIMPLEMENTED.
 */
import { status } from "@grpc/grpc-js";
import { failure } from "../../actors/failure.ts";
import { encodeHead, encodeTrailer } from "../link/messages.ts";
import type { Stream, StreamHandler } from "../link/stream.ts";
import { MAX_GRPC_MESSAGE } from "./limits.ts";

export type GrpcMethod = (stream: Stream) => StreamHandler;

export interface GrpcMethods {
  serve(method: string, stream: Stream): StreamHandler;
}

/** SERVING as `grpc.health.v1.HealthCheckResponse`: field 1, varint 1. */
const SERVING = new Uint8Array([0x08, 0x01]);
const PREFIX_BYTES = 5;

/** `echo` adds `/kas.agent.v1.Echo/Echo`, which returns every byte it gets. */
export function builtInMethods({ echo: withEcho }: { readonly echo: boolean }): Map<string, GrpcMethod> {
  const methods = new Map<string, GrpcMethod>([["/grpc.health.v1.Health/Check", unary(() => SERVING)]]);
  if (withEcho) methods.set("/kas.agent.v1.Echo/Echo", echo);
  return methods;
}

export function createGrpcMethods(methods: ReadonlyMap<string, GrpcMethod>): GrpcMethods {
  return {
    serve(name, stream) {
      const method = methods.get(name) ?? unimplemented(name);
      return method(stream);
    },
  };
}

/** One message in, one out. The message is assembled here, so this is its consumer and refuses what is too large. */
export function unary(answer: (message: Uint8Array) => Uint8Array): GrpcMethod {
  return (stream) => {
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    stream.accept();
    return {
      ...IDLE,
      data(chunk) {
        bytes += chunk.length;
        if (bytes > MAX_GRPC_MESSAGE + PREFIX_BYTES) {
          const reason = `the agent takes messages of at most ${MAX_GRPC_MESSAGE} bytes: send less at once`;
          stream.reset({ failure: failure("too-large", reason), unprocessed: false });
          return;
        }
        chunks.push(chunk);
        stream.consumed(chunk.length);
      },
      end() {
        const message = messageOf(Buffer.concat(chunks));
        if (message === null) finish(stream, status.INVALID_ARGUMENT, "expected exactly one uncompressed message");
        else {
          stream.head(NO_METADATA);
          stream.data(prefixed(answer(message)));
          finish(stream, status.OK, "");
        }
      },
    };
  };
}

/** Credit goes back to the sender only as the echo leaves, so it holds no more than the sender's window. */
const echo: GrpcMethod = (stream) => {
  stream.accept();
  stream.head(NO_METADATA);
  return {
    ...IDLE,
    data: (bytes) => stream.data(bytes),
    sent: (bytes) => stream.consumed(bytes),
    stopped() {
      stream.end();
      stream.stop();
    },
    end: () => finish(stream, status.OK, ""),
  };
};

function unimplemented(name: string): GrpcMethod {
  return (stream) => {
    stream.accept();
    stream.head(NO_METADATA);
    finish(stream, status.UNIMPLEMENTED, `this agent serves no method ${name}: check its version`);
    stream.stop();
    return IDLE;
  };
}

const NO_METADATA = encodeHead({ status: 0, headers: [] });

function finish(stream: Stream, code: status, message: string): void {
  stream.trailer(encodeTrailer({ status: code, message, headers: [] }));
  stream.end();
}

function messageOf(bytes: Buffer): Uint8Array | null {
  if (bytes.length < PREFIX_BYTES || bytes[0] !== 0) return null;
  return bytes.readUInt32BE(1) === bytes.length - PREFIX_BYTES ? bytes.subarray(PREFIX_BYTES) : null;
}

function prefixed(message: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(PREFIX_BYTES + message.length);
  bytes.writeUInt32BE(message.length, 1);
  bytes.set(message, PREFIX_BYTES);
  return bytes;
}

const ignore = (): void => {};
const IDLE: StreamHandler = {
  accepted: ignore,
  head: ignore,
  data: ignore,
  trailer: ignore,
  end: ignore,
  stopped: ignore,
  reset: ignore,
  sent: ignore,
  closed: ignore,
};
