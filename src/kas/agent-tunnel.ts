/**
 * The call an agent holds open (`kas.agent.v1.AgentTunnel/Connect`): who it is comes from its token alone, and once both
 * sides have greeted, its link is a connection of this node until either side ends it.
 */
import { constants, type ServerHttp2Stream } from "node:http2";
import type { ServerDuplexStream, ServiceDefinition, UntypedServiceImplementation } from "@grpc/grpc-js";
import type { Millis } from "../../actors/actor.ts";
import { type Failure, failure } from "../../actors/failure.ts";
import type { ConnectionId } from "../../actors/ids.ts";
import { type AgentIdentity, type Auth, isRefusal } from "../auth/auth.ts";
import { type Holder, SUPERSEDED } from "../cluster/holder.ts";
import type { Routing } from "../cluster/routing.ts";
import { Failed, failed } from "../failed.ts";
import { streamOf } from "../grpc/server.ts";
import { serverCallCarrier } from "../link/carriers/grpc-call.ts";
import { type Hello, type Link, type LinkOptions, SERVICE_CAPABILITY } from "../link/link.ts";
import type { Clock } from "../runtime/clock.ts";
import { failureOf, grpcStatus } from "../status.ts";
import type { Logger } from "../telemetry/logger.ts";

const identity = (bytes: Buffer): Buffer => bytes;
/** An agent that hears that its link is over has ended the call by then. */
const ENDED_WITHIN: Millis = 2_000;

export const agentTunnel: ServiceDefinition = {
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

/** `drain`: all that ran on it had ended, and the agent closed it. */
export type Disconnect = "drain" | "revoked" | "superseded" | "lost" | "silent" | "error";

export type AgentTunnelOptions = {
  readonly auth: Auth;
  readonly routing: Routing;
  readonly holder: Holder;
  readonly clock: Clock;
  readonly openLink: (options: LinkOptions) => Link;
  /** What the calls come over, for people. */
  readonly transport: "grpc" | "websocket";
  /** Our HELLO; `instance` says to the agent which agent its token makes it. */
  readonly hello: (agent: AgentIdentity) => Hello;
  readonly wallClock: () => number;
  readonly connects: (result: "ok" | "unauthenticated" | "error") => void;
  readonly disconnects: (reason: Disconnect) => void;
  readonly log: Pick<Logger, "info" | "warn" | "error">;
};

type Call = ServerDuplexStream<Buffer, Buffer>;

export function agentTunnelHandlers(options: AgentTunnelOptions): UntypedServiceImplementation {
  return {
    connect(call: Call) {
      admit(options, call).catch((err: unknown) => {
        options.log.error("an agent could not be admitted", { peer: call.getPeer(), err });
        call.emit("error", grpcStatus(failureOf(err)));
      });
    },
  };
}

/** Bytes come only after the token was looked at: until then grpc-js holds them back by its window. */
async function admit(options: AgentTunnelOptions, call: Call): Promise<void> {
  const token = bearerOf(call);
  const answer = token
    ? await options.auth.agentOf(token)
    : failure("unauthenticated", "the call has no `authorization: Bearer <agent token>`");
  if (call.cancelled) return;
  if (isRefusal(answer)) {
    options.connects("unauthenticated");
    options.log.warn("agent refused", { peer: call.getPeer(), code: answer.code, reason: answer.reason });
    call.emit("error", grpcStatus(answer));
    return;
  }
  // A balancer sends agents here for a while after we began to leave: they keep the link they have and try again elsewhere.
  if (options.routing.phase === "draining") {
    options.connects("error");
    call.emit("error", grpcStatus(failure("draining", "this node is leaving: connect to another one")));
    return;
  }
  serve(options, call, answer);
}

function bearerOf(call: Call): string | null {
  const [value, ...more] = call.metadata.get("authorization");
  if (typeof value !== "string" || more.length > 0) return null;
  return /^bearer +(\S+)$/i.exec(value)?.[1] ?? null;
}

function serve(options: AgentTunnelOptions, call: Call, agent: AgentIdentity): void {
  const { routing, holder, log } = options;
  const stream = streamOf(call);
  if (!stream) throw failed("internal", "this version of grpc-js keeps the stream of a call elsewhere");
  let id: ConnectionId | null = null;
  const fields = { agent_id: agent.agentId, peer: call.getPeer() };
  const link = options.openLink({
    clock: options.clock,
    carrier: serverCallCarrier(call, stream),
    role: "acceptor",
    owner: agent.agentId,
    hello: options.hello(agent),
    check: (theirs) => (theirs.role === "agent" ? null : failure("protocol", "only agents connect to this listener")),
    events: {
      up(theirs) {
        const { instance, process, lost, version } = theirs;
        greeting[Symbol.dispose]();
        const { agentId, name, projectId, tokenId: token } = agent;
        const connectedAt = options.wallClock();
        const { transport } = options;
        const services = servicesOf(theirs);
        id = holder.add(
          { agentId, link, name, projectId, version, instance, transport, connectedAt, services, token },
          { instance, process, link: theirs.link, lost },
        );
        options.connects("ok");
        log.info("agent connected", { ...fields, connection: id, instance, version: theirs.version });
      },
      open() {
        const why = failure("protocol", "an agent opens no streams");
        link.destroy(why);
        throw new Failed(why);
      },
      ready() {},
      drain() {
        if (id !== null) routing.drained(id);
      },
      ctl() {},
      fault: (err) => log.error("a handler of a stream threw", { ...fields, err }),
      closed(reason) {
        greeting[Symbol.dispose]();
        endSoon(options.clock, stream);
        if (id === null) {
          options.connects("error");
          log.warn("agent link ended before it was up", { ...fields, ...reason });
          return;
        }
        routing.disconnected(id);
        holder.remove(id);
        options.disconnects(link.silent ? "silent" : disconnectOf(reason));
        log.info("agent disconnected", { ...fields, connection: id, ...reason });
      },
    },
  });
  // Until its link is up the holder does not know it, and could not end it.
  const greeting = options.auth.onRevoked((tokens) => {
    if (tokens.has(agent.tokenId)) link.destroy(failure("unauthenticated", "this agent's token was revoked"));
  });
}

function disconnectOf(reason: Failure): Disconnect {
  if (reason === SUPERSEDED) return "superseded";
  if (reason.code === "unauthenticated") return "revoked";
  if (reason.code === "draining") return "drain";
  return reason.code === "protocol" ? "error" : "lost";
}

/** The call of an agent that vanished without a word would keep its connection open for hours. */
function endSoon(clock: Clock, stream: ServerHttp2Stream): void {
  if (stream.closed || stream.destroyed) return;
  const timer = clock.schedule(clock.now() + ENDED_WITHIN, () => stream.close(constants.NGHTTP2_CANCEL));
  stream.once("close", () => timer[Symbol.dispose]());
}

const servicesOf = ({ capabilities }: Hello): readonly string[] =>
  capabilities.flatMap((name) => (name.startsWith(SERVICE_CAPABILITY) ? [name.slice(SERVICE_CAPABILITY.length)] : []));
