/**
 * The settings of the workers of `kas serve --workers N`. Each is a node of its own: its name, its address for the other nodes
 * and its observability listener differ, everything else is what the file says.
 */
import { isNodeName } from "../../actors/ids.ts";
import type { Failed } from "../failed.ts";
import { failed } from "../failed.ts";
import type { KasConfig } from "./kas.ts";

export const MAX_WORKERS = 64;

/** Listeners that all workers share: the kernel spreads their sockets. */
export const SHARED_LISTENERS = ["agent", "api", "kubernetes_api"] as const;
export type SharedListener = (typeof SHARED_LISTENERS)[number];

/** The port of each shared listener that is served. */
export type SharedPorts = Readonly<Partial<Record<SharedListener, number>>>;

export function sharedAddresses({ agent, api }: KasConfig): Readonly<Partial<Record<SharedListener, KasAddress>>> {
  return {
    agent: agent.listen.address,
    ...(api && { api: api.listen.address }),
    kubernetes_api: agent.kubernetes_api.listen.address,
  };
}

type KasAddress = KasConfig["agent"]["listen"]["address"];

/** Only its supervisor knows this one. */
const LOOPBACK: KasAddress = { host: "127.0.0.1", port: 0 };

/** One for each worker. Throws `invalid` where the file does not allow for so many. */
export const workerConfigs = (config: KasConfig, workers: number): readonly KasConfig[] =>
  Array.from({ length: workers }, (_, index) => workerConfig(config, index, workers));

function workerConfig(config: KasConfig, index: number, workers: number): KasConfig {
  const { node, nats, private_api, own_private_api, observability } = config;
  if (!nats || !private_api || !own_private_api) {
    throw fault(workers, "needs NATS: each worker is a node and they meet there. Set nats.servers, or leave it out");
  }
  const name = `${node.name}-w${index}`;
  if (!isNodeName(name)) {
    throw fault(workers, `makes the node name ${name}, which is longer than 63: set a shorter node.name`);
  }
  const moved = (port: number): number => (port === 0 ? 0 : port + index);
  const last = Math.max(private_api.listen.address.port, own_private_api.port) + workers - 1;
  if (last > 65_535) {
    throw fault(
      workers,
      `needs a port of the private API for each worker, but there is no port ${last}: set a lower one`,
    );
  }
  const { host, port } = private_api.listen.address;
  const { certificate_file: _cert, key_file: _key, ...plain } = observability.listen;
  return {
    ...config,
    node: { name },
    private_api: { ...private_api, listen: { ...private_api.listen, address: { host, port: moved(port) } } },
    own_private_api: { ...own_private_api, port: moved(own_private_api.port) },
    observability: { ...observability, listen: { ...plain, address: LOOPBACK } },
  };
}

const fault = (workers: number, why: string): Failed => failed("invalid", `--workers ${workers} ${why}`);

/** The same with the ports that were found for the shared listeners. */
export function withSharedPorts(config: KasConfig, ports: SharedPorts): KasConfig {
  const { agent, api } = config;
  const { kubernetes_api } = agent;
  return {
    ...config,
    agent: {
      ...agent,
      listen: moved(agent.listen, ports.agent),
      kubernetes_api: { ...kubernetes_api, listen: moved(kubernetes_api.listen, ports.kubernetes_api) },
    },
    ...(api && { api: { ...api, listen: moved(api.listen, ports.api) } }),
  };
}

const moved = <Listen extends { readonly address: KasAddress }>(listen: Listen, port: number | undefined): Listen => ({
  ...listen,
  address: { ...listen.address, port: port ?? listen.address.port },
});
