/** What the routing plane needs from its composition root. */
import type { Failure } from "../../actors/failure.ts";
import type { NodeId, NodeName } from "../../actors/ids.ts";
import type { buildRing } from "../../actors/ring.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Messenger } from "./messenger.ts";
import type { HolderPort } from "./routing.ts";
import type { RoutingSettings } from "./routing-settings.ts";
import type { StreamLimit } from "./stream-limit.ts";

export type RoutingOptions = {
  readonly name: NodeName;
  /** Wall clock at boot; a higher one is taken when others remember a higher one. */
  readonly incarnation: number;
  /** `host:port` of the private API, "" for a cluster of one. */
  readonly address: string;
  /** Null for a cluster of one. */
  readonly messenger: Messenger | null;
  readonly clock: Clock;
  /** Milliseconds since 1970. */
  readonly wallClock: () => number;
  /** In [0, 1). */
  readonly random: () => number;
  readonly holder: HolderPort;
  readonly log: (text: string, error: unknown) => void;
  /** A newer process has our name: reset everything and exit. Nothing is sent any more. */
  readonly deposed: (reason: Failure) => void;
  /** Our clock went back: we are this member from now on. Absent: joining fails instead. */
  readonly renamed?: (self: NodeId) => void;
  readonly settings?: Partial<RoutingSettings>;
  /** Of the node; absent: what callers may have is not limited here. */
  readonly streams?: StreamLimit;
  readonly buildRing?: typeof buildRing;
};
