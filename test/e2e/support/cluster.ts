/**
 * A cluster of real kas processes around a real nats-server, with agents where the test wants them. Disposing it ends every
 * process it started; when a test failed, their last words are printed first.
 */
import { writeFileSync } from "node:fs";
import { afterEach } from "vitest";
import { stringify } from "yaml";
import { type NatsServer, startNatsServer } from "../../support/nats-server.ts";
import { Agentk, type AgentkOptions } from "./agentk.ts";
import { Balancer } from "./balancer.ts";
import { type Certificates, makeCertificates } from "./certificates.ts";
import { evidence } from "./evidence.ts";
import { KasNode } from "./kas-node.ts";
import { kubeconfigYaml } from "./kubectl.ts";
import { LeakGate, type Watched } from "./leak-gate.ts";
import { RunDir } from "./run-dir.ts";
import {
  merge,
  type NodeSettings,
  PREFIX,
  type Secrets,
  staticFile,
  TOKENS,
  type Tree,
  writeSecrets,
} from "./settings.ts";

export type ClusterOptions = {
  /** More than one meet over a real nats-server; one alone has none. */
  readonly nodes: number;
  readonly tls?: NodeSettings["tls"];
  /** Merged over each node's configuration. */
  readonly settings?: Tree;
  /** The same for one node. */
  readonly settingsOf?: (index: number) => Tree;
  readonly users?: Tree;
  readonly env?: Readonly<Record<string, string>>;
  /** More flags of `kas serve`. */
  readonly flags?: readonly string[];
  /** The same for one node. */
  readonly envOf?: (index: number) => Readonly<Record<string, string>>;
  /** A NATS of the test's own instead of one that lives and ends with the cluster. */
  readonly natsUrl?: string;
  /** Told of each node that listens, before the others know it. */
  readonly listening?: (index: number, node: KasNode) => void;
};

export type AgentSeed = Omit<AgentkOptions, "kas"> & {
  /** Numbers of the nodes it shall land on, the preferred first; it dials a balancer when there is more than one. */
  readonly on: readonly number[];
};

type Parts = { readonly nats: NatsServer | null; readonly certificates: Certificates | null };

let clusters = 0;

export class Cluster implements AsyncDisposable {
  readonly dir: RunDir;
  readonly nodes: KasNode[] = [];
  readonly agents: Agentk[] = [];
  readonly secrets: Secrets;
  readonly certificates: Certificates | null;
  readonly nats: NatsServer | null;
  readonly #options: ClusterOptions;
  readonly #owned: AsyncDisposableStack;
  readonly #staticFile: string;
  readonly #balancers = new Map<Agentk, { readonly balancer: Balancer; readonly home: number }>();
  readonly #cluster = `e2e-${process.pid}-${++clusters}`;

  private constructor(options: ClusterOptions, owned: AsyncDisposableStack, dir: RunDir, parts: Parts) {
    this.#options = options;
    this.#owned = owned;
    this.dir = dir;
    this.nats = parts.nats;
    this.certificates = parts.certificates;
    this.secrets = writeSecrets(dir);
    this.#staticFile = dir.file("agents.yaml");
    this.writeStaticFile(options.users ?? staticFile());
  }

  /** Starts the nodes together and waits until all are ready. */
  static async start(options: ClusterOptions): Promise<Cluster> {
    await using owned = new AsyncDisposableStack();
    const dir = owned.use(new RunDir("cluster"));
    const nats = options.nodes > 1 && !options.natsUrl ? owned.use(await startNatsServer()) : null;
    const certificates = (options.tls ?? "none") === "none" ? null : await makeCertificates(dir);
    const cluster = new Cluster(options, owned.move(), dir, { nats, certificates });
    try {
      const starts = Array.from({ length: options.nodes }, (_, index) => cluster.#startNode(index));
      for (const start of await Promise.allSettled(starts)) if (start.status === "rejected") throw start.reason;
      await cluster.ready();
    } catch (error) {
      cluster.printLogs();
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
    return cluster;
  }

  writeStaticFile(users: Tree): void {
    writeFileSync(this.#staticFile, stringify(users));
  }

  node(index: number): KasNode {
    const node = this.nodes[index];
    if (!node) throw new Error(`no node ${index}`);
    return node;
  }

  /** The node of that name; `kas-1` or `kas-1.<incarnation>`. */
  named(name: string): KasNode {
    return this.node(this.nodes.findIndex((node) => node.name === name.split(".")[0]));
  }

  async #startNode(index: number): Promise<void> {
    const settings: NodeSettings = {
      name: `kas-${index}`,
      cluster: this.#cluster,
      natsUrl: this.#options.natsUrl ?? this.nats?.url ?? null,
      secrets: this.secrets,
      staticFile: this.#staticFile,
      tls: this.#options.tls ?? "none",
      certificates: this.certificates,
      more: merge(this.#options.settings ?? {}, this.#options.settingsOf?.(index) ?? {}),
    };
    const env = { ...this.#options.env, ...this.#options.envOf?.(index) };
    const node = await KasNode.start(this.dir, settings, env, this.#options.flags);
    this.nodes[index] = node;
    this.#options.listening?.(index, node);
  }

  async ready(): Promise<void> {
    await Promise.all(this.nodes.filter(({ alive }) => alive).map((node) => node.ready()));
  }

  /** Starts a node again under its name, on new ports. */
  async restart(index: number): Promise<KasNode> {
    await this.node(index)[Symbol.asyncDispose]();
    await this.#startNode(index);
    await this.node(index).ready();
    return this.node(index);
  }

  async agent({ on, ...options }: AgentSeed): Promise<Agentk> {
    const scheme = this.#options.tls === "all" ? "grpcs" : "grpc";
    const flags = [...(options.flags ?? [])];
    if (this.#options.tls === "all" && this.certificates) flags.push(`--kas-ca-cert-file=${this.certificates.caFile}`);
    const first = on[0] ?? 0;
    const balancer = on.length > 1 ? this.#owned.use(await Balancer.listen(() => this.#targets(on))) : null;
    const address = balancer?.address ?? this.node(first).address("agent");
    const agent = await Agentk.start(this.dir, { ...options, flags, kas: `${scheme}://${address}` });
    if (balancer) this.#balancers.set(agent, { balancer, home: first });
    this.agents.push(agent);
    return agent;
  }

  #targets(on: readonly number[]): readonly string[] {
    return on
      .map((index) => this.node(index))
      .filter(({ alive }) => alive)
      .map((node) => node.address("agent"));
  }

  /** Starts dead nodes again and brings every agent behind a balancer back to the node it prefers. */
  async heal(): Promise<void> {
    for (const [index, { alive }] of this.nodes.entries()) if (!alive) await this.restart(index);
    await Promise.all(
      [...this.#balancers].map(async ([agent, { balancer, home }]) => {
        const wanted = `kas-${home}`;
        if (!agent.alive || agent.node === wanted) return;
        balancer.cut();
        await agent.child.whileAlive(`a connection to ${wanted}`, () => agent.node === wanted || undefined);
      }),
    );
  }

  /** Kubernetes API proxy of a node for paths below its prefix. */
  proxyUrl(index: number, path: string): string {
    const scheme = this.certificates ? "https" : "http";
    return `${scheme}://${this.node(index).address("kubernetes_api")}${PREFIX}${path}`;
  }

  /** Headers of a caller of the proxy. */
  credential(
    agentId: number,
    token: string = TOKENS.admin,
    kind: "pat" | "ci" = "pat",
  ): { readonly authorization: string } {
    return { authorization: `Bearer ${kind}:${agentId}:${token}` };
  }

  /** Writes a kubeconfig that leads through a node to an agent. */
  kubeconfig(index: number, agentId: number, token: string = TOKENS.admin): string {
    const file = this.dir.file(`kubeconfig-${index}-${agentId}-${token}`);
    writeFileSync(file, kubeconfigYaml(this.proxyUrl(index, ""), `pat:${agentId}:${token}`, this.certificates?.ca));
    return file;
  }

  /** Everything the leak gate watches. */
  watched(): readonly Watched[] {
    return [...this.nodes, ...this.agents];
  }

  async leakGate(): Promise<LeakGate> {
    return await LeakGate.baseline(() => this.watched());
  }

  printLogs(): void {
    const children = [...this.nodes.filter(Boolean).map((n) => n.child), ...this.agents.map((a) => a.child)];
    for (const child of children) process.stderr.write(`${child.tail(60)}\n`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.agents, ...this.nodes.filter(Boolean)].map((one) => one[Symbol.asyncDispose]()));
    await this.#owned.disposeAsync();
  }
}

/** Prints the processes' last words after each test that failed. Call it inside `describe`. */
export function printLogsOnFailure(cluster: () => Cluster | undefined): void {
  afterEach(({ task }) => {
    if (task.result?.state === "fail") cluster()?.printLogs();
  });
}

/** Writes down which kas and agentk ran, as their build metrics say. */
export async function noteVersions(cluster: Cluster): Promise<void> {
  for (const [part, one, metric] of [
    ["kas", cluster.nodes[0], "kas_build_info"],
    ["agentk", cluster.agents[0], "agentk_build_info"],
  ] as const) {
    const info = (await one?.metrics())?.samples.find(({ name }) => name === metric);
    if (info) evidence(part, `${part} ${info.labels.version ?? ""}`);
  }
}
