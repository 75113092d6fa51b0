/** A real Prometheus that scrapes itself every second. */
import { writeFileSync } from "node:fs";
import { Child } from "./child.ts";
import { fetchText } from "./http.ts";
import { freePort } from "./port.ts";
import type { RunDir } from "./run-dir.ts";

export class Prometheus implements AsyncDisposable {
  readonly url: string;
  readonly #child: Child;

  private constructor(url: string, child: Child) {
    this.url = url;
    this.#child = child;
  }

  /** Resolves when it has scraped itself at least twice. */
  static async start(program: string, dir: RunDir): Promise<Prometheus> {
    const address = `127.0.0.1:${await freePort()}`;
    const config = dir.file("prometheus.yaml");
    const scrape = { job_name: "self", static_configs: [{ targets: [address] }] };
    writeFileSync(config, JSON.stringify({ global: { scrape_interval: "1s" }, scrape_configs: [scrape] }));
    const args = [
      `--config.file=${config}`,
      `--storage.tsdb.path=${dir.file("tsdb")}`,
      `--web.listen-address=${address}`,
    ];
    const prometheus = new Prometheus(
      `http://${address}`,
      new Child({ name: "prometheus", command: program, args, dir }),
    );
    await prometheus.#child.whileAlive("two scrapes", async () => {
      const { text } = await fetchText(`${prometheus.url}/api/v1/query?query=count_over_time(up[1m])`);
      return Number(JSON.parse(text).data.result[0]?.value[1] ?? 0) >= 2 || undefined;
    });
    return prometheus;
  }

  async version(): Promise<string> {
    const { text } = await fetchText(`${this.url}/api/v1/status/buildinfo`);
    return JSON.parse(text).data.version;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child[Symbol.asyncDispose]();
  }
}
