/** Durations of the gRPC calls that a process serves. Methods may be made up by callers, so their number is bounded. */
import type { Registry } from "prom-client";
import type { Spread } from "./series.ts";
import { histogram } from "./tally.ts";

const MAX_SERIES = 500;
const OTHER = "_OTHER";
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];

/** `method` is `package.Service/Method`, `status` the name of a gRPC code. */
export type RpcDurations = (method: string, status: string, seconds: number) => void;

export function rpcDurations(registry: Registry): RpcDurations {
  const durations = histogram(
    {
      registry,
      name: "rpc_server_call_duration_seconds",
      help: "From a call's start to its status",
      labels: ["rpc_method", "rpc_status_code"],
    },
    SECONDS,
  );
  const known = new Map<string, Spread>();
  const bound = (method: string, status: string): Spread => {
    const key = `${method} ${status}`;
    const found = known.get(key);
    if (found) return found;
    if (known.size >= MAX_SERIES && method !== OTHER) return bound(OTHER, status);
    const made = durations({ rpc_method: method, rpc_status_code: status }, true);
    known.set(key, made);
    return made;
  };
  return (method, status, seconds) => bound(method, status).observe(seconds);
}
