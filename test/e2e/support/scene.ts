/**
 * A cluster with a faulty proxy on every way: agent to kas, kas to kas (what each node advertises), kas to NATS. Every agent has
 * an upstream of its own, and everything is called through a recorded caller.
 */

import { type NatsServer, startNatsServer } from "../../support/nats-server.ts";
import { rssBytes } from "../../support/resident-memory.ts";
import { Agentk } from "./agentk.ts";
import { Cluster, type ClusterOptions, printLogsOnFailure } from "./cluster.ts";
import { FaultyProxy } from "./faulty-proxy.ts";
import { History, type Send, wasAnswered } from "./history.ts";
import type { GateOptions, LeakGate } from "./leak-gate.ts";
import { merge, type Tree } from "./settings.ts";
import { Upstream } from "./upstream.ts";
import { until } from "./wait.ts";

export type AgentPlace = {
  readonly id: number;
  /** Nodes it lands on, the preferred first. */
  readonly on: readonly number[];
  readonly env?: Readonly<Record<string, string>>;
};

export type SceneOptions = Omit<ClusterOptions, "natsUrl" | "envOf" | "settingsOf" | "listening"> & {
  readonly agents: readonly AgentPlace[];
  /** Servers to use as they are; otherwise one is started, and each node reaches it through a proxy of its own. */
  readonly natsServers?: readonly string[];
};

export type Placed = { readonly agent: Agentk; readonly proxy: FaultyProxy; readonly home: string };

const NATS_SCHEME = "nats://";

export class Scene implements AsyncDisposable {
  readonly cluster: Cluster;
  readonly nats: NatsServer | null;
  readonly upstreams = new Map<number, Upstream>();
  readonly placed: Placed[] = [];
  /** What stands before each node for the other nodes, and before NATS for each node. */
  readonly toPeer: readonly FaultyProxy[];
  readonly toNats: readonly FaultyProxy[];
  readonly history: History;
  /** Nodes that the balancers before the agents take out, as health checks would. */
  readonly avoid = new Set<number>();
  readonly #owned: AsyncDisposableStack;

  private constructor(cluster: Cluster, parts: Pick<Scene, "nats" | "toPeer" | "toNats">, owned: AsyncDisposableStack) {
    this.cluster = cluster;
    this.nats = parts.nats;
    this.toPeer = parts.toPeer;
    this.toNats = parts.toNats;
    this.#owned = owned;
    this.history = new History(
      {
        url: (node, path) => cluster.proxyUrl(node, path),
        headers: (agent) => cluster.credential(agent),
      },
      this.upstreams,
    );
  }

  static async start({ agents, natsServers, ...options }: SceneOptions): Promise<Scene> {
    await using owned = new AsyncDisposableStack();
    const nats = options.nodes > 1 && !natsServers ? owned.use(await startNatsServer()) : null;
    const indices = Array.from({ length: options.nodes }, (_, index) => index);
    const peers: string[] = [];
    const toPeer: FaultyProxy[] = [];
    const toNats: FaultyProxy[] = [];
    for (const index of indices) {
      toPeer.push(owned.use(await FaultyProxy.listen(() => peers.slice(index, index + 1))));
      toNats.push(owned.use(await FaultyProxy.listen(() => [nats?.url.slice(NATS_SCHEME.length) ?? ""])));
    }
    const settingsOf = (index: number): Tree =>
      options.nodes === 1
        ? {}
        : {
            nats: { servers: natsServers ?? [`${NATS_SCHEME}${toNats[index]?.address}`] },
          };
    const envOf = (index: number): Readonly<Record<string, string>> =>
      options.nodes === 1 ? {} : { OWN_PRIVATE_API_URL: `grpc://${toPeer[index]?.address}` };
    const natsUrl = natsServers?.[0] ?? nats?.url;
    const cluster = owned.use(
      await Cluster.start({
        ...options,
        settings: merge({ timings: { accept_within: "4s" } }, options.settings ?? {}),
        settingsOf,
        envOf,
        listening(index, node) {
          if (options.nodes > 1) peers[index] = node.address("private_api");
        },
        ...(natsUrl && { natsUrl }),
      }),
    );
    const scene = new Scene(cluster, { nats, toPeer, toNats }, owned.move());
    try {
      for (const place of agents) await scene.place(place);
      await scene.warm();
    } catch (error) {
      cluster.printLogs();
      await scene[Symbol.asyncDispose]();
      throw error;
    }
    return scene;
  }

  /** Starts one more agentk, behind a proxy of its own. */
  async place({ id, on, env }: AgentPlace): Promise<Placed> {
    let upstream = this.upstreams.get(id);
    if (!upstream) {
      upstream = this.#owned.use(await Upstream.listen(String(id)));
      this.upstreams.set(id, upstream);
    }
    const alive = () =>
      on
        .filter((index) => !this.avoid.has(index))
        .map((index) => this.cluster.node(index))
        .filter((node) => node.alive);
    const proxy = this.#owned.use(await FaultyProxy.listen(() => alive().map((node) => node.address("agent"))));
    const agent = await Agentk.start(this.cluster.dir, {
      id,
      kas: `grpc://${proxy.address}`,
      services: { upstream: upstream.url },
      ...(env && { env }),
    });
    this.cluster.agents.push(agent);
    const placed = { agent, proxy, home: `kas-${on[0] ?? 0}` };
    this.placed.push(placed);
    return placed;
  }

  /** The `n`th agentk placed for this agent. */
  of(id: number, n = 0): Placed {
    const found = this.placed.filter(({ agent }) => agent.id === id)[n];
    if (!found) throw new Error(`no agent ${id} was placed`);
    return found;
  }

  upstream(id: number): Upstream {
    const upstream = this.upstreams.get(id);
    if (!upstream) throw new Error(`agent ${id} has no upstream`);
    return upstream;
  }

  get active(): number {
    return [...this.upstreams.values()].reduce((sum, { active }) => sum + active, 0);
  }

  /** Indices of the nodes that run. */
  get running(): readonly number[] {
    return this.cluster.nodes.flatMap(({ alive }, index) => (alive ? [index] : []));
  }

  /** Asks until it works: routes are warm, links are up. Leaves no trace in the history. */
  async warm(within = 20_000): Promise<void> {
    await this.warmAgain(within);
    this.history.clear();
  }

  /** The same, with a trace. */
  async warmAgain(within = 20_000): Promise<void> {
    const ids = new Set(this.placed.filter(({ agent }) => agent.alive).map(({ agent }) => agent.id));
    for (const agent of ids) for (const node of this.running) await this.reaches({ agent, node }, within);
  }

  async reaches(send: Send, within = 20_000): Promise<void> {
    await until(
      `agent ${send.agent} through node ${send.node}`,
      async () => wasAnswered(await this.history.send({ ...send, bound: 10_000 }, "reach")),
      { within },
    );
  }

  /** Everything as at the beginning: faults gone, dead nodes started, agents where they want to be, routes warm. */
  async restore(): Promise<LeakGate> {
    for (const proxy of [...this.toPeer, ...this.toNats, ...this.placed.map((placed) => placed.proxy)]) proxy.heal();
    this.avoid.clear();
    await this.cluster.heal();
    await Promise.all(this.placed.map(comeHome));
    await this.settled();
    await this.warm();
    return await this.cluster.leakGate();
  }

  /** Every node sees every running node again. */
  async settled(within = 40_000): Promise<void> {
    await until(
      "all nodes to agree on all members",
      async () => {
        const all = await Promise.all(this.running.map(async (index) => await this.cluster.node(index).metrics()));
        const views = new Set(all.map((metrics) => metrics.sum("kas_ring_view")));
        return views.size === 1 && all.every((metrics) => metrics.sum("kas_ring_members") === this.running.length);
      },
      { within },
    );
  }

  /** The invariants on the history, nobody left at work, and the leak gate. */
  async end(gate: LeakGate, options: GateOptions = {}) {
    const summary = this.history.verify();
    await until("the upstreams to be left alone", () => this.active === 0, { within: 5_000 });
    await gate.check(options);
    return summary;
  }

  /** MiB of each process of the cluster that lives. */
  rss(): readonly number[] {
    const { nodes, agents } = this.cluster;
    return [...nodes, ...agents].filter(({ alive }) => alive).map(({ child }) => rssBytes(child.pid) / 2 ** 20);
  }

  /** By how much each has grown since `rss` said so; the same ones must live. */
  grown(before: readonly number[]): readonly number[] {
    return this.rss().map((now, n) => Math.round(now - (before[n] ?? 0)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync();
  }
}

/** Redials until it is on the node it prefers. */
async function comeHome({ agent, proxy, home }: Placed): Promise<void> {
  if (!agent.alive || agent.node === home) return;
  proxy.reset();
  await agent.child.whileAlive(`a connection to ${home}`, () => agent.node === home || undefined);
}

/** Prints last words after a failure, and puts the numbers of a scenario where a person finds them. */
export const printOnFailure = (scene: () => Scene | undefined): void => printLogsOnFailure(() => scene()?.cluster);

export function report(scenario: string, numbers: Readonly<Record<string, unknown>>): void {
  process.stdout.write(`${scenario} ${JSON.stringify(numbers)}\n`);
}
