/**
 * gRPC metadata as the flat headers of a stream and back. `-bin` values are base64 there. What gRPC, HTTP/2 or kas
 * itself says is never passed on, in either direction.
 */
import { Metadata } from "@grpc/grpc-js";
import { failed } from "../failed.ts";
import type { FlatHeaders } from "../link/messages.ts";

const HOP_BY_HOP = new Set(["authorization", "content-type", "te", "host", "connection", "failure-code"]);
const isOurs = (name: string): boolean => name.startsWith("kas-") || name.startsWith("x-kas-");
const isTrace = (name: string): boolean => name === "traceparent" || name === "tracestate" || name === "baggage";
/** gRPC's own that belong to an answer, not to a hop. */
const ANSWERS = new Set(["grpc-status-details-bin", "grpc-retry-pushback-ms"]);
const stays = (name: string): boolean =>
  HOP_BY_HOP.has(name) || name.startsWith("grpc-") || name.startsWith(":") || isOurs(name) || isTrace(name);

/** Everything a caller meant for the agent. */
export function flatten(metadata: Metadata): FlatHeaders {
  const flat: string[] = [];
  for (const name of Object.keys(metadata.getMap())) {
    if (stays(name)) continue;
    for (const value of metadata.get(name)) {
      flat.push(name, typeof value === "string" ? value : value.toString("base64"));
    }
  }
  return flat;
}

/** Everything an agent meant for the caller. Throws `protocol` for what cannot be metadata. */
export function unflatten(flat: FlatHeaders): Metadata {
  const metadata = new Metadata();
  for (let i = 0; i + 1 < flat.length; i += 2) {
    const name = (flat[i] ?? "").toLowerCase();
    const value = flat[i + 1] ?? "";
    if (stays(name) && !ANSWERS.has(name)) continue;
    try {
      metadata.add(name, name.endsWith("-bin") ? Buffer.from(value, "base64") : value);
    } catch (cause) {
      throw failed("protocol", `the agent sent metadata that gRPC does not allow: ${JSON.stringify(name)}`, cause);
    }
  }
  return metadata;
}

/** The first text value, "" without one. */
export function textOf(metadata: Metadata, name: string): string {
  const [value] = metadata.get(name);
  return typeof value === "string" ? value : "";
}
