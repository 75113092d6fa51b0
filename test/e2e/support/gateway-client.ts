/** Rails as kas sees it: a grpc-js client with a JWT, and raw calls of methods that an agent serves. */
import { createHmac } from "node:crypto";
import type { DescMessage, DescMethod, DescMethodStreaming, DescMethodUnary } from "@bufbuild/protobuf";
import { create, fromBinary, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";
import {
  type CallOptions,
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  credentials,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";

export type Claims = Readonly<Record<string, unknown>>;

const base64url = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** The token GitLab's Rails sends; `claims` replace its own. */
export function jwt(secretBase64: string, claims: Claims = {}): string {
  const now = Math.floor(Date.now() / 1000);
  const payload = {
    iss: "gitlab.test",
    aud: "gitlab-kas",
    iat: now,
    nbf: now - 5,
    exp: now + 60,
    jti: `${now}`,
    ...claims,
  };
  const text = `${base64url({ alg: "HS256", typ: "JWT" })}.${base64url(payload)}`;
  const signature = createHmac("sha256", Buffer.from(secretBase64, "base64")).update(text).digest("base64url");
  return `${text}.${signature}`;
}

export type GatewayOptions = {
  readonly address: string;
  readonly secret: string;
  readonly ca?: string;
  readonly token?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly within?: number;
};

const path = (method: DescMethod) => `/${method.parent.typeName}/${method.name}`;
const encode =
  <Desc extends DescMessage>(schema: Desc) =>
  (message: MessageShape<Desc>) =>
    Buffer.from(toBinary(schema, message));
const decode =
  <Desc extends DescMessage>(schema: Desc) =>
  (bytes: Buffer) =>
    fromBinary(schema, bytes);
const raw = (bytes: Buffer) => bytes;

export class GatewayClient implements Disposable {
  readonly #client: Client;
  readonly #options: GatewayOptions;

  constructor(options: GatewayOptions) {
    this.#options = options;
    const channel = options.ca ? credentials.createSsl(Buffer.from(options.ca)) : credentials.createInsecure();
    this.#client = new Client(options.address, channel, {
      "grpc.max_receive_message_length": -1,
      "grpc.max_send_message_length": -1,
      "grpc.use_local_subchannel_pool": 1,
      "grpc.enable_retries": 0,
    });
  }

  #metadata(more: Readonly<Record<string, string>> = {}): Metadata {
    const metadata = new Metadata();
    metadata.set("authorization", `bearer ${this.#options.token ?? jwt(this.#options.secret)}`);
    for (const [key, value] of Object.entries({ ...this.#options.metadata, ...more })) metadata.set(key, value);
    return metadata;
  }

  #deadline(): CallOptions {
    return { deadline: Date.now() + (this.#options.within ?? 30_000) };
  }

  /** Rejects with the grpc-js ServiceError, whose `metadata` are the trailers. */
  async unary<Input extends DescMessage, Output extends DescMessage>(
    method: DescMethodUnary<Input, Output>,
    message: MessageInitShape<Input>,
  ): Promise<MessageShape<Output>> {
    return await new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        path(method),
        encode(method.input),
        decode(method.output),
        create(method.input, message),
        this.#metadata(),
        this.#deadline(),
        (error: ServiceError | null, answer?: MessageShape<Output>) => (answer ? resolve(answer) : reject(error)),
      );
    });
  }

  serverStream<Input extends DescMessage, Output extends DescMessage>(
    method: Omit<DescMethodStreaming<Input, Output>, "methodKind">,
    message: MessageInitShape<Input>,
  ): ClientReadableStream<MessageShape<Output>> {
    return this.#client.makeServerStreamRequest(
      `/${method.parent.typeName}/${method.name}`,
      encode(method.input),
      decode(method.output),
      create(method.input, message),
      this.#metadata(),
    );
  }

  bidi<Input extends DescMessage, Output extends DescMessage>(
    method: Omit<DescMethodStreaming<Input, Output>, "methodKind">,
  ): ClientDuplexStream<MessageShape<Input>, MessageShape<Output>> {
    const name = `/${method.parent.typeName}/${method.name}`;
    return this.#client.makeBidiStreamRequest(name, encode(method.input), decode(method.output), this.#metadata());
  }

  /** Calls any method that the agent itself serves, bytes in and bytes out. */
  async rawUnary(agentId: number, method: string, message: Buffer): Promise<Buffer> {
    const metadata = this.#metadata({ "kas-agent-id": String(agentId) });
    return await new Promise((resolve, reject) => {
      const done = (error: ServiceError | null, answer?: Buffer) => (answer ? resolve(answer) : reject(error));
      this.#client.makeUnaryRequest(method, raw, raw, message, metadata, this.#deadline(), done);
    });
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}

/** What a failed call says: status code, details and kas's own failure code. */
export async function grpcFailure(call: Promise<unknown>) {
  try {
    await call;
  } catch (error) {
    const { code, details, metadata } = error as ServiceError;
    const failureCode = metadata?.get("failure-code")[0];
    return {
      code,
      details: details ?? String(error),
      failureCode: failureCode === undefined ? "" : String(failureCode),
    };
  }
  throw new Error("the call did not fail");
}
