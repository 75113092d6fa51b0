/**
 * Any method that an agent itself serves: a call with metadata `kas-agent-id` is carried to it as it is, message by
 * message, and the agent's metadata and status come back untouched. See docs/adr/0006-raw-routing.md.
 */
import { Metadata, type StatusObject, status } from "@grpc/grpc-js";
import { isAgentId } from "../../actors/ids.ts";
import type { RouteRequest, Router } from "../cluster/router.ts";
import { failed } from "../failed.ts";
import type { Answer } from "../grpc/call.ts";
import { frameMessage, MessageAssembler } from "../grpc/framing.ts";
import { flatten, textOf, unflatten } from "../grpc/metadata.ts";
import type { Trailer } from "../link/messages.ts";
import { MAX_MESSAGE_BYTES } from "./codec.ts";
import { Exchange, type Wire } from "./exchange.ts";
import { type GuardedAnswer, type GuardedCall, type GuardOptions, guard } from "./guard.ts";
import { patience } from "./head.ts";

const AGENT = "kas-agent-id";
/** Callers choose these names: one label for all. */
const LABEL = "_OTHER";

function rawRequest(call: GuardedCall): RouteRequest {
  const [named, ...more] = call.metadata.get(AGENT);
  const agentId = /^\d{1,16}$/.test(String(named)) ? Number(named) : 0;
  if (more.length > 0 || !isAgentId(agentId)) {
    throw failed("invalid", `metadata ${AGENT} is ${JSON.stringify(named)}: it must be one positive number`);
  }
  call.names(agentId);
  return {
    agentId,
    kind: "grpc",
    target: { type: "grpc" },
    ...patience(call),
    idempotent: textOf(call.metadata, "kas-idempotent") === "true",
    upgrade: false,
    class: "bulk",
    caller: { kind: "rails", id: textOf(call.metadata, "kas-actor"), as: null },
    method: call.path,
    path: "",
    headers: flatten(call.metadata),
    trace: call.trace,
  };
}

function statusOf(trailer: Trailer): StatusObject {
  const known = status[trailer.status] !== undefined;
  return {
    code: known ? trailer.status : status.UNKNOWN,
    details: trailer.message,
    metadata: unflatten(trailer.headers),
  };
}

function rawWire(call: GuardedCall): Wire {
  const assembler = new MessageAssembler(MAX_MESSAGE_BYTES);
  let ended: StatusObject | null = null;
  return {
    up(message) {
      if (message.length <= MAX_MESSAGE_BYTES) return frameMessage(message);
      throw failed("too-large", `a message is ${message.length} bytes; at most ${MAX_MESSAGE_BYTES} are carried`);
    },
    head: ({ headers }) => call.sendMetadata(unflatten(headers)),
    down: (bytes, send) => assembler.push(bytes, send),
    trailer(trailer) {
      ended = statusOf(trailer);
    },
    end() {
      if (!ended) throw failed("protocol", `the agent ended ${call.path} without a status`);
      if (assembler.partial && ended.code === status.OK) {
        throw failed("protocol", `the agent ended ${call.path} in the middle of a message`);
      }
      return ended;
    },
  };
}

const routed =
  (router: Router): GuardedAnswer =>
  (call) => {
    const exchange = new Exchange(call, rawWire(call));
    exchange.begin(router, rawRequest(call));
    return {
      message: (bytes) => exchange.message(bytes),
      end: () => exchange.halfClose(),
      closed: () => exchange.left(),
    };
  };

const unimplemented: Answer = (call) => {
  const details = `The server does not implement the method ${call.path}; for a method of an agent say which one in metadata ${AGENT}`;
  call.finish({ code: status.UNIMPLEMENTED, details, metadata: new Metadata() });
  return { message() {}, end() {}, closed() {} };
};

/** Answers every method that is not registered. */
export function rawRouting(options: GuardOptions, router: Router): Answer {
  const agents = guard(options, LABEL, routed(router));
  return (call) => (call.metadata.get(AGENT).length > 0 ? agents(call) : unimplemented(call));
}
