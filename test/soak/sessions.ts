/**
 * Long sessions of callers that say nothing for hours, as kubectl and client-go hold them: an exec and a port-forward whose
 * caller only sends PINGs (of WebSocket), a watch whose caller only sends PINGs (of HTTP/2), and watches that are entirely silent.
 */
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { get } from "node:https";
import { create, toBinary } from "@bufbuild/protobuf";
import { WebSocket } from "ws";
import { StreamRequestSchema } from "../../src/gen/kas/gateway/v1/gateway_pb.ts";
import { inTime } from "../e2e/support/wait.ts";

export type Caller = {
  /** `https://host:port/prefix/services/upstream` */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly ca: string;
};

export interface Session extends Disposable {
  readonly name: string;
  /** What ended it; null while it is open. */
  readonly ended: string | null;
  /** Resolves when something of now came through to its other end and back, or from there. */
  works(): Promise<void>;
}

const WORKS_WITHIN = 10_000;

/** An exec or a port-forward. The upstream echoes. */
export async function openEcho(name: string, { url, headers, ca }: Caller, pingEvery: number): Promise<Session> {
  const socket = new WebSocket(`${url.replace("https:", "wss:")}/echo`, "v5.channel.k8s.io", { headers, ca });
  let ended: string | null = null;
  socket.on("error", (error) => {
    ended ??= error.message;
  });
  socket.once("close", (code) => {
    clearInterval(timer);
    ended ??= `closed with ${code}`;
  });
  const timer = setInterval(() => socket.ping(), pingEvery);
  await inTime(`${name} to open`, WORKS_WITHIN, once(socket, "open"));
  return {
    name,
    get ended() {
      return ended;
    },
    async works() {
      const word = `${name} ${Date.now()}`;
      const back = once(socket, "message");
      socket.send(word);
      const [message] = await inTime(`the echo of ${name}`, WORKS_WITHIN, back);
      if (String(message) !== word) throw new Error(`${name} echoed ${message}`);
    },
    [Symbol.dispose]: () => socket.terminate(),
  };
}

/** Makes the upstream send an event to all watchers. */
export type Tell = () => void;

export type Rails = { readonly address: string; readonly token: string; readonly agentId: number };

/** A watch by Gateway.Stream whose caller asks for life signs of HTTP/2, as client-go does after 30 s without a byte. */
export async function openWatch({ address, token, agentId }: Rails, pingEvery: number, tell: Tell): Promise<Session> {
  const session = connectHttp2(`http://${address}`);
  let ended: string | null = null;
  const end = (why: string) => {
    ended ??= why;
  };
  session.on("error", (error) => end(error.message));
  session.once("close", () => {
    clearInterval(timer);
    end("the connection was closed");
  });
  const timer = setInterval(() => !session.closed && session.ping(() => {}), pingEvery);
  const stream = session.request({
    ":method": "POST",
    ":path": "/kas.gateway.v1.Gateway/Stream",
    "content-type": "application/grpc",
    te: "trailers",
    authorization: `bearer ${token}`,
  });
  stream.on("error", (error) => end(error.message));
  stream.on("trailers", (trailers) => end(`gRPC status ${trailers["grpc-status"]}: ${trailers["grpc-message"]}`));
  stream.once("close", () => end("the watch was ended"));
  const head = once(stream, "data");
  stream.end(asked(agentId));
  await inTime("the watch to open", WORKS_WITHIN, head);
  return {
    name: "watch by Gateway.Stream",
    get ended() {
      return ended;
    },
    async works() {
      const event = once(stream, "data");
      tell();
      await inTime("an event of the watch", WORKS_WITHIN, event);
    },
    [Symbol.dispose]: () => session.destroy(),
  };
}

/** The only message of the watch, in gRPC's frame. */
function asked(agentId: number): Buffer {
  const target = { kind: { case: "service", value: "upstream" } } as const;
  const head = { agentId: BigInt(agentId), target, method: "GET", path: "/watch", actor: "soak" };
  const message = toBinary(StreamRequestSchema, create(StreamRequestSchema, { part: { case: "head", value: head } }));
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

/** A watch over HTTP/1.1 on which nobody says anything. */
export async function openSilent(name: string, { url, headers, ca }: Caller, tell: Tell): Promise<Session> {
  const call = get(`${url}/watch`, { headers, ca, agent: false });
  const [answer] = await inTime(`${name} to open`, WORKS_WITHIN, once(call, "response"));
  if (answer.statusCode !== 200) throw new Error(`${name} was answered with ${answer.statusCode}`);
  let ended: string | null = null;
  answer.on("error", (error: Error) => {
    ended ??= error.message;
  });
  answer.once("close", () => {
    ended ??= "the answer ended";
  });
  answer.resume();
  return {
    name,
    get ended() {
      return ended;
    },
    async works() {
      const event = once(answer, "data");
      tell();
      await inTime(`an event of ${name}`, WORKS_WITHIN, event);
    },
    [Symbol.dispose]: () => call.destroy(),
  };
}
