/** The messages between this node and the others: over the bus, and over peer links where the bus does not reach. */
import type { NodeId } from "../../actors/ids.ts";
import type { Secrets } from "../auth/secret-file.ts";
import type { Bus } from "../bus/bus.ts";
import { Envelopes } from "../bus/envelopes.ts";
import { createSubjects } from "../bus/subjects.ts";
import { BusMessenger } from "../cluster/bus-messenger.ts";
import { RelayedMessenger, type RelayedMessengerOptions } from "../cluster/relayed-messenger.ts";
import type { KasConfig } from "../config/kas.ts";

export type ClusterMessengerOptions = Pick<RelayedMessengerOptions, "clock" | "self" | "links" | "linkTo"> & {
  readonly config: KasConfig;
  readonly bus: Bus;
  readonly secrets: Secrets;
  /** Who we are until we joined. */
  readonly first: NodeId;
};

export interface ClusterMessenger extends Disposable {
  readonly messenger: RelayedMessenger;
  /** We are this process of our name from now on. */
  renamed(self: NodeId): void;
}

export function openClusterMessenger(options: ClusterMessengerOptions): ClusterMessenger {
  const { config, bus, secrets, first } = options;
  const cluster = config.cluster.name;
  const subjects = createSubjects(config.nats?.subject_prefix ?? "kas", cluster);
  const accepted = secrets.filter((secret) => secret !== undefined);
  const envelopes = new Envelopes({ cluster, self: first, secrets: accepted });
  const overBus = new BusMessenger({ bus, subjects, envelopes, self: first });
  const silentAfter = 2.5 * config.timings.heartbeat_interval;
  const messenger = new RelayedMessenger({ ...options, bus: overBus, envelopes, subjects, silentAfter });
  return {
    messenger,
    renamed: (self) => overBus.renamed(self),
    [Symbol.dispose]() {
      messenger[Symbol.dispose]();
      overBus[Symbol.dispose]();
    },
  };
}
