/** Server reflection, v1 and v1alpha (the same messages), from the descriptors that were generated with the code. */
import {
  create,
  createRegistry,
  type DescFile,
  type MessageInitShape,
  type Registry,
  toBinary,
} from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import {
  type ServerReflectionRequest,
  ServerReflectionRequestSchema,
  ServerReflectionResponseSchema,
  ServerReflection as V1,
} from "../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as V1Alpha } from "../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { type Answer, OK } from "./call.ts";
import { decode, methodPath } from "./service.ts";

type Reply = NonNullable<MessageInitShape<typeof ServerReflectionResponseSchema>["messageResponse"]>;

const notFound = (what: string): Reply => ({
  case: "errorResponse",
  value: { errorCode: status.NOT_FOUND, errorMessage: `${what} is not known here` },
});

/** A file and everything it imports, each once: a client can build the descriptors from one answer. */
function withImports(file: DescFile, seen = new Set<DescFile>()): Set<DescFile> {
  if (seen.has(file)) return seen;
  seen.add(file);
  for (const imported of file.dependencies) withImports(imported, seen);
  return seen;
}

const files = (file: DescFile): Reply => ({
  case: "fileDescriptorResponse",
  value: { fileDescriptorProto: [...withImports(file)].map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto)) },
});

/** What a listener serves, and everything that is needed to understand it. */
type Served = {
  readonly services: readonly string[];
  readonly files: ReadonlySet<DescFile>;
  readonly registry: Registry;
};

function serve(listed: readonly DescFile[]): Served {
  const files = new Set<DescFile>();
  for (const file of listed) withImports(file, files);
  const services = listed.flatMap((file) => file.services.map(({ typeName }) => typeName));
  return { services, files, registry: createRegistry(...files) };
}

/** `package.Service.Method`, `package.Message` and `package.Message.field` all name a file. */
function fileOf({ registry }: Served, symbol: string): DescFile | undefined {
  for (let name = symbol; name; name = name.slice(0, Math.max(0, name.lastIndexOf(".")))) {
    const found = registry.get(name);
    if (found) return found.file;
  }
  return undefined;
}

function reply(served: Served, { messageRequest: asked }: ServerReflectionRequest): Reply {
  switch (asked.case) {
    case "listServices":
      return { case: "listServicesResponse", value: { service: served.services.map((name) => ({ name })) } };
    case "fileByFilename": {
      const file = [...served.files].find(({ proto }) => proto.name === asked.value);
      return file ? files(file) : notFound(`file ${asked.value}`);
    }
    case "fileContainingSymbol": {
      const file = fileOf(served, asked.value);
      return file ? files(file) : notFound(`symbol ${asked.value}`);
    }
    case "allExtensionNumbersOfType":
      return served.registry.getMessage(asked.value)
        ? { case: "allExtensionNumbersResponse", value: { baseTypeName: asked.value } }
        : notFound(`type ${asked.value}`);
    case "fileContainingExtension":
      return notFound(`extension ${asked.value.extensionNumber} of ${asked.value.containingType}`);
    case undefined:
      return {
        case: "errorResponse",
        value: { errorCode: status.INVALID_ARGUMENT, errorMessage: "the request asks for nothing" },
      };
  }
}

/** Answers in the order asked, the next only when the last has left. */
const reflect =
  (served: Served): Answer =>
  (call) => {
    call.read();
    return {
      message(bytes) {
        const request = decode(ServerReflectionRequestSchema, bytes);
        const answer = create(ServerReflectionResponseSchema, {
          validHost: request.host,
          originalRequest: request,
          messageResponse: reply(served, request),
        });
        call.send(toBinary(ServerReflectionResponseSchema, answer), () => call.read());
      },
      end: () => call.finish(OK),
      closed() {},
    };
  };

export function reflectionMethods(files: readonly DescFile[]): ReadonlyMap<string, Answer> {
  const answer = reflect(serve(files));
  return new Map([V1, V1Alpha].map(({ method }) => [methodPath(method.serverReflectionInfo), answer]));
}
