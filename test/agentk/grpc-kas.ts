/** kas's end of the agent link over a real grpc-js server on loopback: it greets every agent whose token is `good`. */
import {
  type Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServiceDefinition,
  status,
} from "@grpc/grpc-js";
import { failed } from "../../src/failed.ts";
import { streamOf } from "../../src/grpc/server.ts";
import { identity, serverCallCarrier } from "../../src/link/carriers/grpc-call.ts";
import type { Hello, Link } from "../../src/link/link.ts";
import { openLink } from "../../src/link/multiplexer.ts";
import { systemClock } from "../../src/runtime/clock.ts";

const service: ServiceDefinition = {
  connect: {
    path: "/kas.agent.v1.AgentTunnel/Connect",
    requestStream: true,
    responseStream: true,
    requestSerialize: identity,
    requestDeserialize: identity,
    responseSerialize: identity,
    responseDeserialize: identity,
  },
};

export type AgentLink = { readonly link: Link; readonly metadata: Metadata; agent: Hello | null; closed: boolean };

export class GrpcKas implements AsyncDisposable {
  readonly links: AgentLink[] = [];
  readonly #server: Server;
  readonly port: number;
  #changed: (() => void)[] = [];

  constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  async until(condition: (kas: this) => boolean): Promise<void> {
    while (!condition(this)) await new Promise<void>((resolve) => this.#changed.push(resolve));
  }

  tell(): void {
    const waiting = this.#changed;
    this.#changed = [];
    for (const resolve of waiting) resolve();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.forceShutdown();
  }
}

export async function grpcKas(credentials = ServerCredentials.createInsecure(), good = "good"): Promise<GrpcKas> {
  const server = new Server();
  let kas: GrpcKas | null = null;
  server.addService(service, {
    connect(call: ServerDuplexStream<Buffer, Buffer>) {
      if (call.metadata.get("authorization")[0] !== `Bearer ${good}`) {
        call.emit("error", { code: status.UNAUTHENTICATED, details: "unknown token" });
      } else if (kas) serve(kas, call);
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  kas = new GrpcKas(server, port);
  return kas;
}

function serve(kas: GrpcKas, call: ServerDuplexStream<Buffer, Buffer>): void {
  const accepted: { link: Link | null; metadata: Metadata; agent: Hello | null; closed: boolean } = {
    link: null,
    metadata: call.metadata,
    agent: null,
    closed: false,
  };
  const stream = streamOf(call);
  if (!stream) throw new Error("grpc-js keeps the stream of a call elsewhere");
  accepted.link = openLink({
    clock: systemClock,
    carrier: serverCallCarrier(call, stream),
    role: "acceptor",
    hello: {
      cluster: "default",
      name: "kas-0",
      role: "kas",
      expects: "",
      versions: [1, 1],
      capabilities: [],
      streamWindow: 64 * 1024,
      instance: "1",
      process: "",
      link: 0,
      lost: [],
      version: "0",
      node: "kas-0.1",
      nonce: "",
    },
    check: () => null,
    events: {
      up(agent) {
        accepted.agent = agent;
        accepted.link?.ready();
        kas.tell();
      },
      open() {
        throw failed("protocol", "agents open no streams");
      },
      ready() {},
      drain() {},
      ctl() {},
      closed() {
        accepted.closed = true;
        kas.tell();
      },
    },
  });
  kas.links.push(accepted as AgentLink);
  kas.tell();
}
