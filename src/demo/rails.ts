/** The demo as Rails: calls of the gRPC service Gateway with a signed token and a trace of its own. */
import { randomBytes } from "node:crypto";
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { SignJWT } from "jose";

const WITHIN = 15_000;

export type Answered<Message> = { readonly message: Message; readonly traceId: string; readonly millis: number };

export class Rails implements Disposable {
  readonly #client: Client;
  readonly #secret: Uint8Array;

  constructor(address: string, secret: Uint8Array) {
    this.#client = new Client(address, credentials.createInsecure());
    this.#secret = secret;
  }

  /** Rejects with the status's details. */
  async call<Input extends DescMessage, Output extends DescMessage>(
    method: DescMethodUnary<Input, Output>,
    message: MessageInitShape<Input>,
  ): Promise<Answered<MessageShape<Output>>> {
    const traceId = randomBytes(16).toString("hex");
    const metadata = new Metadata();
    metadata.set("authorization", `bearer ${await this.#token()}`);
    metadata.set("traceparent", `00-${traceId}-${randomBytes(8).toString("hex")}-01`);
    const { promise, resolve, reject } = Promise.withResolvers<MessageShape<Output>>();
    const began = performance.now();
    this.#client.makeUnaryRequest(
      `/${method.parent.typeName}/${method.name}`,
      (input: MessageShape<Input>) => Buffer.from(toBinary(method.input, input)),
      (bytes: Buffer) => fromBinary(method.output, bytes),
      create(method.input, message),
      metadata,
      { deadline: Date.now() + WITHIN },
      (error, answer) => (answer ? resolve(answer) : reject(error)),
    );
    return { message: await promise, traceId, millis: performance.now() - began };
  }

  async #token(): Promise<string> {
    const token = new SignJWT({}).setProtectedHeader({ alg: "HS256", typ: "JWT" });
    return await token
      .setIssuer("the kas demo")
      .setAudience("gitlab-kas")
      .setIssuedAt()
      .setNotBefore("-5s")
      .setExpirationTime("60s")
      .sign(this.#secret);
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}
