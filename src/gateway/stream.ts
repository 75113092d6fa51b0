/** Gateway.Stream: one HTTP request of any size, its head first; watches and upgrades too. */
import type { Router } from "../cluster/router.ts";
import { failed } from "../failed.ts";
import { StreamRequestSchema, StreamResponseSchema } from "../gen/kas/gateway/v1/gateway_pb.ts";
import { OK } from "../grpc/call.ts";
import { decode, encode } from "../grpc/service.ts";
import type { FlatHeaders } from "../link/messages.ts";
import { encodeData } from "./codec.ts";
import { Exchange, type Wire } from "./exchange.ts";
import type { GuardedAnswer } from "./guard.ts";
import { streamRequest } from "./head.ts";

function listed(flat: FlatHeaders): { name: string; value: string }[] {
  const headers = [];
  for (let i = 0; i + 1 < flat.length; i += 2) headers.push({ name: flat[i] ?? "", value: flat[i + 1] ?? "" });
  return headers;
}

function up(message: Buffer): readonly Uint8Array[] {
  const { part } = decode(StreamRequestSchema, message);
  if (part.case !== "data") throw failed("invalid", "after the head come only messages with data: half-close to end");
  return [part.value];
}

function httpWire(send: (message: Uint8Array) => void): Wire {
  let begun = false;
  return {
    up,
    head({ status, headers }) {
      begun = status > 0;
      send(encode(StreamResponseSchema, { part: { case: "head", value: { status, headers: listed(headers) } } }));
    },
    down: (bytes, send) => send(encodeData(bytes)),
    trailer({ headers }, send) {
      send(encode(StreamResponseSchema, { part: { case: "trailers", value: { headers: listed(headers) } } }));
    },
    end() {
      if (!begun) throw failed("protocol", "the agent ended the answer without a status");
      return OK;
    },
  };
}

export const stream =
  (router: Router): GuardedAnswer =>
  (call) => {
    const wire = httpWire((message) => exchange.send(message));
    const exchange = new Exchange(call, wire);
    let begun = false;
    call.read();
    return {
      message(bytes) {
        if (begun) return exchange.message(bytes);
        begun = true;
        const { part } = decode(StreamRequestSchema, bytes);
        if (part.case !== "head") throw failed("invalid", "the first message must be the head");
        exchange.begin(router, streamRequest(call, part.value));
      },
      end() {
        if (!begun) throw failed("invalid", "the call had no message: the first must be the head");
        exchange.halfClose();
      },
      closed: () => exchange.left(),
    };
  };
