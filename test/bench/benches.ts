/** Every benchmark by its name, the most telling first. */
import { bulk } from "./bulk.ts";
import { burst } from "./burst.ts";
import { delay } from "./delay.ts";
import { get } from "./get.ts";
import { grpc } from "./grpc.ts";
import { idle } from "./idle.ts";
import { lookup } from "./lookup.ts";
import { recovery } from "./recovery.ts";
import { slow } from "./slow.ts";
import { stalled } from "./stalled.ts";
import { storm } from "./storm.ts";
import type { Bench, Findings } from "./support/row.ts";
import { upgrade } from "./upgrade.ts";
import { watch } from "./watch.ts";
import { workers } from "./workers.ts";

export const BENCHES: Readonly<Record<string, (bench: Bench) => Findings>> = {
  get,
  grpc,
  bulk,
  stalled,
  slow,
  idle,
  lookup,
  recovery,
  burst,
  watch,
  upgrade,
  delay,
  storm,
  workers,
};

/** What has a target in the design. The others are slower to take or promise nothing, and are not in a quick run. */
export const IN_QUICK = ["get", "grpc", "bulk", "stalled", "slow", "idle", "lookup", "recovery", "burst"] as const;

/** Where a profile of every process tells something. */
export const PROFILED: readonly string[] = ["get", "grpc", "bulk"];
