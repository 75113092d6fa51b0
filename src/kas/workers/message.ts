/** What a supervisor and its workers say to each other, over the channel of the process. */
import type { Failure } from "../../../actors/failure.ts";
import type { KasConfig } from "../../config/kas.ts";
import type { Readiness } from "../../telemetry/observability-server.ts";

export type ToWorker =
  /** Comes once, first. `replaces`: one before it ended, and the others take sockets already. */
  | { readonly type: "start"; readonly config: KasConfig; readonly replaces: boolean }
  | { readonly type: "drain" }
  /** Say goodbye to the cluster and end. */
  | { readonly type: "stop" };

export type ToSupervisor =
  | { readonly type: "listening"; readonly listener: string; readonly address: string }
  /** At once when it is up, at every change, and every second besides: silence means that its event loop is stuck. */
  | ({ readonly type: "state" } & Readiness)
  /** It cannot start, or must not go on. */
  | { readonly type: "failed"; readonly failure: Failure };

/** With each request that is passed on to a worker: the address of whoever asked. */
export const CALLER_ADDRESS = "x-kas-caller-address";
