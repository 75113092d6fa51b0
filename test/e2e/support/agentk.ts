/** One real agentk process, connected. Where it dials is the test's choice, so is what it reaches. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Child, type Line } from "./child.ts";
import { NODE } from "./kas-node.ts";
import { kubeconfigYaml } from "./kubectl.ts";
import type { Watched } from "./leak-gate.ts";
import { type Metrics, scrape } from "./metrics.ts";
import { freePort } from "./port.ts";
import { ROOT, type RunDir } from "./run-dir.ts";
import { agentToken } from "./settings.ts";

export type AgentkOptions = {
  readonly id: number;
  /** `grpc://host:port` and the like. */
  readonly kas: string;
  readonly token?: string;
  readonly kubeconfig?: string;
  /** Name and URL of services in the cluster. */
  readonly services?: Readonly<Record<string, string>>;
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
};

let started = 0;

/** For agents that are only asked for services: port 9 discards, and nobody listens on it. */
function nowhere(dir: RunDir): string {
  const file = dir.file("nowhere.kubeconfig");
  writeFileSync(file, kubeconfigYaml("http://127.0.0.1:9", "none"));
  return file;
}

export class Agentk implements Watched, AsyncDisposable {
  readonly kind = "agentk";
  readonly name: string;
  readonly child: Child;
  readonly id: number;
  readonly #observability: string;

  private constructor(name: string, id: number, child: Child, observability: string) {
    this.name = name;
    this.id = id;
    this.child = child;
    this.#observability = observability;
  }

  /** Starts it without waiting for its connection. */
  static async spawn(dir: RunDir, options: AgentkOptions): Promise<Agentk> {
    started += 1;
    const name = `agentk-${options.id}-${started}`;
    const observability = `127.0.0.1:${await freePort()}`;
    const tokenFile = dir.file(`${name}.token`);
    writeFileSync(tokenFile, options.token ?? agentToken(options.id), { mode: 0o600 });
    const args = [
      join(ROOT, "bin", "agentk.js"),
      `--kas-address=${options.kas}`,
      `--token-file=${tokenFile}`,
      `--observability-listen-address=${observability}`,
      `--kubeconfig=${options.kubeconfig ?? nowhere(dir)}`,
      ...Object.entries(options.services ?? {}).map(([service, url]) => `--service=${service}=${url}`),
      ...(options.flags ?? []),
    ];
    const env = { AGENTK_BACKOFF_INITIAL: "100ms", AGENTK_BACKOFF_MAX: "1s", ...options.env };
    return new Agentk(name, options.id, new Child({ name, command: NODE, args, dir, env }), observability);
  }

  static async start(dir: RunDir, options: AgentkOptions): Promise<Agentk> {
    const agent = await Agentk.spawn(dir, options);
    try {
      await agent.connected();
    } catch (error) {
      await agent[Symbol.asyncDispose]();
      throw error;
    }
    return agent;
  }

  get alive(): boolean {
    return this.child.alive;
  }

  /** Lines `connected` so far; the last one names the node it is on. */
  get connections(): readonly Line[] {
    return this.child.lines.filter(({ msg }) => msg === "connected");
  }

  /** Name of the node it connected to last. */
  get node(): string {
    return String(this.connections.at(-1)?.node ?? "").split(".")[0] ?? "";
  }

  /** Waits for the `count`th connection; the node's name. */
  async connected(count = 1, within = 20_000): Promise<string> {
    const line = await this.child.whileAlive(`connection ${count}`, () => this.connections[count - 1], within);
    if (line.agent_id !== this.id) throw new Error(`${this.name} connected as agent ${line.agent_id}`);
    return String(line.node);
  }

  async metrics(): Promise<Metrics> {
    return await scrape(this.#observability);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.child[Symbol.asyncDispose]();
  }
}
