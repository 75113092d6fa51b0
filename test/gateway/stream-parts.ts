/** The messages of `Gateway.Stream`, and calls of it on a gateway that is left with nothing. */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { expect } from "vitest";
import { Gateway, type StreamRequestSchema, type StreamResponse } from "../../src/gen/kas/gateway/v1/gateway_pb.ts";
import type { TestRails } from "./rails.ts";

export const KiB = 1024;
export const PATH = "/kas.gateway.v1.Gateway/Stream";
export type Part = MessageInitShape<typeof StreamRequestSchema>["part"];

export const head = (path: string, more: object = {}): Part => ({
  case: "head",
  value: { agentId: 7n, method: "GET", path, ...more },
});
export const data = (bytes: Uint8Array): Part => ({ case: "data", value: bytes });
const { input } = Gateway.method.stream;
export const message = (part: Part) => Buffer.from(toBinary(input, create(input, part ? { part } : {})));
export const bodyOf = (replies: readonly StreamResponse[]) =>
  Buffer.concat(replies.flatMap(({ part }) => (part.case === "data" ? [part.value] : [])));

/** Sends these parts, half-closes and gathers everything. */
export const streamOn = (rails: TestRails, parts: readonly Part[]) =>
  rails.call(
    Gateway.method.stream,
    parts.map((part) => (part ? { part } : {})),
  );

/** Ends everything; no stream or socket may be left, and nothing was a bug. */
export async function endQuiet(rails: TestRails): Promise<void> {
  await rails[Symbol.asyncDispose]();
  expect({ streams: rails.router.streams, sockets: rails.sockets.size, bugs: rails.bugs }).toEqual({
    streams: 0,
    sockets: 0,
    bugs: [],
  });
}
