/** What the end of a call to kas means to the one who runs the agent: what happened, and which flag or file would help. */
import { status } from "@grpc/grpc-js";
import { type Failure, failure } from "../../actors/failure.ts";
import { Failed } from "../failed.ts";
import type { CallOver } from "../link/carriers/call-ending.ts";
import { authorityOf, type DialOptions } from "./kas-address.ts";

/** null where nothing went wrong. */
export function refusalOf(why: CallOver, to: DialOptions): Failure | null {
  const address = authorityOf(to);
  switch (why.type) {
    case "ended-here":
      return null;
    case "status":
      return statusRefusal(why.code, why.reason, address);
    case "http":
      return failure("node-gone", httpRefusal(to, why.status, why.location));
    case "broken":
      if (why.error instanceof Failed) return why.error.failure;
      return failure("node-gone", `the connection to kas at ${address} failed: ${why.reason}`);
  }
}

function statusRefusal(code: number, details: string, address: string): Failure | null {
  switch (code) {
    case status.OK:
    case status.CANCELLED:
      return null;
    case status.UNAUTHENTICATED:
      return failure(
        "unauthenticated",
        `kas at ${address} does not accept this agent's token (${details}): put a valid token into the token file; it is read again before every attempt`,
      );
    case status.PERMISSION_DENIED:
      return failure("forbidden", `kas at ${address} does not admit this agent: ${details}`);
    case status.UNIMPLEMENTED:
      return failure("protocol", `${address} is no kas that speaks kas.agent.v1 (${details}): check --kas-address`);
    case status.RESOURCE_EXHAUSTED:
      return failure("busy", `kas at ${address} takes no more agents now: ${details}`);
    default:
      return failure("node-gone", `the connection to kas at ${address} failed: ${details || `gRPC status ${code}`}`);
  }
}

/** Somebody who is not kas answered, or a proxy in front of it. */
export function httpRefusal(to: DialOptions, code: number, location: string): string {
  const inWebSocket = to.scheme === "ws" || to.scheme === "wss";
  const who = inWebSocket ? `${to.scheme}://${authorityOf(to)}${to.path}` : `kas at ${authorityOf(to)}`;
  const said = `${who} answered HTTP ${code} instead of ${inWebSocket ? "opening the WebSocket" : "gRPC"}`;
  if (location)
    return `${said}, a redirect to ${location}: --kas-address must be the final address, redirects are not followed`;
  if (code >= 502 && code <= 504) return `${said}: the proxy before kas does not reach it now`;
  if (inWebSocket) {
    return `${said}: --kas-address must be the address and path of kas' agent listener, with agent.listen.websocket on`;
  }
  return `${said}: --kas-address must be the address of kas' agent listener; where only HTTP/1.1 passes, use ws:// or wss://`;
}
