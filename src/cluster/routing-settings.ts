/** Every interval and limit of the routing protocol. */
import type { Millis } from "../../actors/actor.ts";
import type { HomeSettings } from "../../actors/home-index.ts";
import type { RegistrarSettings } from "../../actors/registrar.ts";
import type { Homes } from "../../actors/ring.ts";
import type { MembershipSettings } from "../../actors/view.ts";

export type RoutingSettings = {
  /** How many nodes keep each entry of the index. */
  readonly homes: Homes;
  readonly membership: MembershipSettings;
  readonly registrar: RegistrarSettings;
  readonly home: HomeSettings;
  /** An agent unseen for this long is offline, one seen later may be on its way back. */
  readonly offlineAfter: Millis;
  readonly lookupWithin: Millis;
  readonly scatterWithin: Millis;
  /** Scatters under way at once; beyond it a request waits for its next poll. */
  readonly scatters: number;
  readonly registeredWithin: Millis;
  readonly streamsPerAgent: number;
  readonly parkedPerAgent: number;
  readonly parked: number;
  readonly cachedAgents: number;
  readonly cachedFor: Millis;
};

export const ROUTING_DEFAULTS: RoutingSettings = {
  homes: 2,
  membership: {
    heartbeat: 1_000,
    suspect: 3_000,
    dead: 8_000,
    joinWindow: 1_500,
    linkQuiet: 2_000,
    linkDead: 4_000,
    proofWithin: 2_000,
    lateAfter: 500,
    lateFor: 10_000,
    stalledAfter: 1_000,
    isolatedMost: 60_000,
  },
  registrar: { batch: 10, retry: 400, retryMost: 3_200, digest: 3_000, partBytes: 256 * 1024 },
  home: {
    matureAfter: 30_000,
    needSnapEvery: 1_000,
    rememberDepartures: 600_000,
    departures: 50_000,
    watchFor: 5_000,
  },
  offlineAfter: 150_000,
  lookupWithin: 150,
  scatterWithin: 600,
  scatters: 64,
  registeredWithin: 1_000,
  streamsPerAgent: 1_000,
  parkedPerAgent: 64,
  parked: 10_000,
  cachedAgents: 50_000,
  cachedFor: 30_000,
};
