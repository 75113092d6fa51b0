/** One real `kas serve` process: its addresses as it printed them, its metrics, and its end. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Child } from "./child.ts";
import { fetchText } from "./http.ts";
import type { Watched } from "./leak-gate.ts";
import { type Metrics, scrape } from "./metrics.ts";
import { ROOT, type RunDir } from "./run-dir.ts";
import { type NodeSettings, nodeYaml } from "./settings.ts";

export const NODE = join(ROOT, "node_modules", ".bin", "node");
export const LISTENERS = ["agent", "api", "kubernetes_api", "private_api", "observability"] as const;
export type Listener = (typeof LISTENERS)[number];

export class KasNode implements Watched, AsyncDisposable {
  readonly kind = "kas";
  readonly name: string;
  readonly child: Child;
  readonly #ca: string | undefined;
  readonly #addresses = new Map<Listener, string>();

  private constructor(name: string, child: Child, ca: string | undefined) {
    this.name = name;
    this.child = child;
    this.#ca = ca;
  }

  /** Resolves when every listener was printed; `ready` waits for the cluster. */
  static async start(
    dir: RunDir,
    settings: NodeSettings,
    env: Readonly<Record<string, string>> = {},
    flags: readonly string[] = [],
  ): Promise<KasNode> {
    const file = dir.file(`${settings.name}.yaml`);
    writeFileSync(file, nodeYaml(settings));
    const args = [join(ROOT, "bin", "kas.js"), "serve", "--configuration-file", file, ...flags];
    const child = new Child({ name: settings.name, command: NODE, args, dir, env });
    const node = new KasNode(settings.name, child, settings.tls === "all" ? settings.certificates?.ca : undefined);
    try {
      for (const listener of LISTENERS) {
        if (listener === "private_api" && !settings.natsUrl) continue;
        const line = await child.line(
          `the listener ${listener}`,
          (l) => l.msg === "listening" && l.listener === listener,
          45_000,
        );
        node.#addresses.set(listener, String(line.address));
      }
    } catch (error) {
      await child[Symbol.asyncDispose]();
      throw error;
    }
    return node;
  }

  address(listener: Listener): string {
    const address = this.#addresses.get(listener);
    if (!address) throw new Error(`${this.name} has no listener ${listener}`);
    return address;
  }

  get alive(): boolean {
    return this.child.alive;
  }

  async ready(within = 20_000): Promise<void> {
    await this.child.whileAlive("readiness", async () => (await this.observe("/readiness")).status === 200, within);
  }

  /** GET on the observability listener. */
  async observe(path: string, token?: string) {
    const url = `${this.#ca ? "https" : "http"}://${this.address("observability")}${path}`;
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    return await fetchText(url, { headers, ...(this.#ca && { ca: this.#ca }) });
  }

  async metrics(): Promise<Metrics> {
    return await scrape(this.address("observability"), this.#ca);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.child[Symbol.asyncDispose]();
  }
}
