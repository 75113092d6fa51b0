/**
 * Real processes for a benchmark: two kas nodes over a real nats-server, an agentk on the second, the upstream behind it and
 * the hops to compare with. The callers come to the first node, so every request crosses both. TLS is off, all else is on.
 */
import { join } from "node:path";
import { Agentk } from "../../e2e/support/agentk.ts";
import { Child } from "../../e2e/support/child.ts";
import { Cluster, type ClusterOptions } from "../../e2e/support/cluster.ts";
import { NODE } from "../../e2e/support/kas-node.ts";
import { ROOT, RunDir } from "../../e2e/support/run-dir.ts";
import { profileEnv } from "./profile.ts";
import type { Watched } from "./usage.ts";

type Env = Readonly<Record<string, string>>;
export type Server = { readonly child: Child; readonly address: string };

export class Stage implements AsyncDisposable {
  readonly dir: RunDir;
  readonly cluster: Cluster;
  readonly upstream: Server;
  readonly #owned: AsyncDisposableStack;
  readonly #profile: string | null;

  private constructor(
    parts: Pick<Stage, "dir" | "cluster" | "upstream">,
    owned: AsyncDisposableStack,
    profile: string | null,
  ) {
    this.dir = parts.dir;
    this.cluster = parts.cluster;
    this.upstream = parts.upstream;
    this.#owned = owned;
    this.#profile = profile;
  }

  /** `profile`: where each process leaves its CPU profile. */
  static async start(profile: string | null, options: Partial<ClusterOptions> = {}): Promise<Stage> {
    await using owned = new AsyncDisposableStack();
    const dir = owned.use(new RunDir("bench"));
    const upstream = await startServer(dir, "upstream", [], profileEnv(profile));
    owned.use(upstream.child);
    const env = { ...profileEnv(profile), ...options.env };
    const cluster = owned.use(await Cluster.start({ nodes: 2, ...options, env }));
    return new Stage({ dir, cluster, upstream }, owned.move(), profile);
  }

  async agent(id: number, node = 1): Promise<Agentk> {
    return await this.cluster.agent({ id, on: [node], services: this.services, env: profileEnv(this.#profile) });
  }

  /** One that dials `address`, which leads to a node somehow. */
  async agentBehind(id: number, address: string): Promise<Agentk> {
    const kas = `grpc://${address}`;
    const agent = await Agentk.start(this.cluster.dir, { id, kas, services: this.services });
    this.cluster.agents.push(agent);
    return agent;
  }

  /** What every agent offers. */
  get services(): Readonly<Record<string, string>> {
    return { upstream: `http://${this.upstream.address}` };
  }

  async server(name: string, args: readonly string[] = [], env: Env = {}): Promise<Server> {
    const server = await startServer(this.dir, name, args, { ...profileEnv(this.#profile), ...env });
    this.#owned.use(server.child);
    return server;
  }

  /** Where a caller asks for `path` of the upstream through agent `id`. */
  routed(path: string, id = 1): { readonly url: string; readonly headers: Readonly<Record<string, string>> } {
    return { url: this.cluster.proxyUrl(0, `services/upstream${path}`), headers: this.cluster.credential(id) };
  }

  /** Every process on the way of a request to the first agent, in its order. */
  watched(): readonly Watched[] {
    const [ingress, holder] = this.cluster.nodes;
    const [agent] = this.cluster.agents;
    const all = [
      ["ingress kas", ingress?.child],
      ["holder kas", holder?.child],
      ["agentk", agent?.child],
      ["upstream", this.upstream.child],
    ] as const;
    return all.flatMap(([name, child]) => (child ? [{ name, pid: child.pid }] : []));
  }

  /** The same of one to the second agent, when that is on the first node. */
  watchedNear(): readonly Watched[] {
    const [kas] = this.cluster.nodes;
    const [, agent] = this.cluster.agents;
    const all = [
      ["kas (ingress and holder)", kas?.child],
      ["agentk", agent?.child],
      ["upstream", this.upstream.child],
    ] as const;
    return all.flatMap(([name, child]) => (child ? [{ name, pid: child.pid }] : []));
  }

  /** Ends every process in order, so that it writes its profile. */
  async finish(): Promise<void> {
    const { nodes, agents } = this.cluster;
    await Promise.all([...agents, ...nodes].map(({ child }) => child.stop()));
    await this.upstream.child.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync();
  }
}

async function startServer(dir: RunDir, name: string, args: readonly string[], env: Env): Promise<Server> {
  const script = join(ROOT, "test", "bench", `${name}.ts`);
  const child = new Child({ name, command: NODE, args: [script, ...args], dir, env });
  try {
    const { address } = await child.line("its address", ({ msg }) => msg === "listening");
    return { child, address: String(address) };
  } catch (error) {
    await child[Symbol.asyncDispose]();
    throw error;
  }
}
