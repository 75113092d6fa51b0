/**
 * Two nodes and three agents (over gRPC, over WebSocket, and one that nobody asks for anything), with a balancer on every way
 * (callers, agents, nodes, NATS) that cuts what is idle for `idleFor`, and sessions across all of them. Nothing may be cut.
 */
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { Agentk } from "../e2e/support/agentk.ts";
import { Cluster } from "../e2e/support/cluster.ts";
import { jwt } from "../e2e/support/gateway-client.ts";
import type { Tree } from "../e2e/support/settings.ts";
import { startNatsServer } from "../support/nats-server.ts";
import { IdleBalancer } from "./idle-balancer.ts";
import { type Caller, openEcho, openSilent, openWatch, type Session } from "./sessions.ts";
import { QuietUpstream } from "./upstream.ts";

export type LongOptions = {
  /** Milliseconds without a byte after which a balancer cuts. */
  readonly idleFor: number;
  /** How often the callers say that they live, as kubectl and client-go do: 5 s and 30 s. */
  readonly echoPing: number;
  readonly watchPing: number;
  /** Merged over each node's configuration. */
  readonly settings: Tree;
};

/** As users have it. */
export const FULL_LENGTH: LongOptions = { idleFor: 60_000, echoPing: 5_000, watchPing: 30_000, settings: {} };

const NATS_SCHEME = "nats://";

export class LongStreams implements AsyncDisposable {
  readonly cluster: Cluster;
  readonly upstream: QuietUpstream;
  readonly balancers: ReadonlyMap<string, IdleBalancer>;
  readonly sessions: readonly Session[];
  /** A connection that really is idle was cut: the balancers do what they are for. */
  controlCut = false;
  readonly #owned: AsyncDisposableStack;

  private constructor(
    parts: Pick<LongStreams, "cluster" | "upstream" | "balancers" | "sessions">,
    owned: AsyncDisposableStack,
  ) {
    this.cluster = parts.cluster;
    this.upstream = parts.upstream;
    this.balancers = parts.balancers;
    this.sessions = parts.sessions;
    this.#owned = owned;
  }

  static async start(options: LongOptions): Promise<LongStreams> {
    await using owned = new AsyncDisposableStack();
    const upstream = owned.use(await QuietUpstream.listen());
    const balancers = new Map<string, IdleBalancer>();
    const balance = async (name: string, target: () => string): Promise<IdleBalancer> => {
      const balancer = owned.use(await IdleBalancer.before(target, options.idleFor));
      balancers.set(name, balancer);
      return balancer;
    };
    const cluster = owned.use(await startCluster(options, balance, owned));
    const callers = await balance("callers", () => cluster.node(0).address("kubernetes_api"));
    const gateway = await balance("Rails", () => cluster.node(0).address("api"));
    for (const [id, scheme] of [
      [1, "grpc"],
      [2, "ws"],
      [3, "grpc"],
    ] as const) {
      const way = await balance(`agent ${id} (${scheme})`, () => cluster.node(1).address("agent"));
      const kas = `${scheme}://${way.address}`;
      const services = { upstream: `http://${upstream.address}` };
      cluster.agents.push(await Agentk.start(cluster.dir, { id, kas, services }));
    }
    const sessions = await openSessions(options, cluster, { callers, gateway }, upstream);
    for (const session of sessions) owned.use(session);
    const silent = await silentServer(owned);
    const control = await balance("control", () => silent);
    const long = new LongStreams({ cluster, upstream, balancers, sessions }, owned.move());
    long.#leaveIdle(control);
    return long;
  }

  #leaveIdle(control: IdleBalancer): void {
    const [host = "", port = "0"] = control.address.split(":");
    const socket = connect({ host, port: Number(port) });
    socket.on("error", () => {});
    socket.once("close", () => {
      this.controlCut = control.cut.length > 0;
    });
    this.#owned.defer(() => void socket.destroy());
  }

  /** What must not have happened and did, in words. */
  faults(): readonly string[] {
    const ended = this.sessions.flatMap(({ name, ended }) => (ended === null ? [] : [`${name}: ${ended}`]));
    const cuts = [...this.balancers].filter(([name, { cut }]) => cut.length > 0 && name !== "control");
    const redialled = this.cluster.agents.filter(({ connections }) => connections.length !== 1);
    return [
      ...ended,
      ...cuts.map(([name, { cut }]) => `cut as idle on the way of ${name}: ${cut.join("; ")}`),
      ...redialled.map(({ name, connections }) => `${name} connected ${connections.length} times`),
    ];
  }

  /** Every session does what it is there for. */
  async work(): Promise<void> {
    for (const session of this.sessions) await session.works();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync();
  }
}

/** Where somebody listens and never says a word. */
async function silentServer(owned: AsyncDisposableStack): Promise<string> {
  const server = createServer().listen(0, "127.0.0.1");
  owned.defer(() => void server.close());
  await once(server, "listening");
  const address = server.address();
  return address && typeof address === "object" ? `127.0.0.1:${address.port}` : "";
}

type Balance = (name: string, target: () => string) => Promise<IdleBalancer>;

async function startCluster(
  { settings }: LongOptions,
  balance: Balance,
  owned: AsyncDisposableStack,
): Promise<Cluster> {
  const nats = owned.use(await startNatsServer());
  const peers: string[] = [];
  const ways = await Promise.all(
    [0, 1].map(async (node) => ({
      peer: await balance(`peers to node ${node}`, () => peers[node] ?? ""),
      nats: await balance(`NATS of node ${node}`, () => nats.url.slice(NATS_SCHEME.length)),
    })),
  );
  return await Cluster.start({
    nodes: 2,
    tls: "proxy",
    natsUrl: nats.url,
    settings,
    settingsOf: (index) => ({ nats: { servers: [`${NATS_SCHEME}${ways[index]?.nats.address}`] } }),
    envOf: (index) => ({ OWN_PRIVATE_API_URL: `grpc://${ways[index]?.peer.address}` }),
    listening(index, node) {
      peers[index] = node.address("private_api");
    },
  });
}

/** To agent 1 through the balancer before the node; silent ones to both agents past it, for nobody keeps those alive on that way. */
async function openSessions(
  { echoPing, watchPing }: LongOptions,
  cluster: Cluster,
  { callers, gateway }: { readonly callers: IdleBalancer; readonly gateway: IdleBalancer },
  upstream: QuietUpstream,
): Promise<readonly Session[]> {
  const ca = cluster.certificates?.ca ?? "";
  const near = cluster.proxyUrl(0, "services/upstream");
  const balanced = near.replace(cluster.node(0).address("kubernetes_api"), callers.address);
  const rails = { address: gateway.address, token: jwt(cluster.secrets.api), agentId: 1 };
  const caller = (url: string, id: number): Caller => ({ url, ca, headers: cluster.credential(id) });
  return [
    await openEcho("exec", caller(balanced, 1), echoPing),
    await openEcho("port-forward", caller(balanced, 1), echoPing),
    await openWatch(rails, watchPing, upstream.tell),
    await openSilent("silent watch, agent over gRPC", caller(near, 1), upstream.tell),
    await openSilent("silent watch, agent over WebSocket", caller(near, 2), upstream.tell),
  ];
}
