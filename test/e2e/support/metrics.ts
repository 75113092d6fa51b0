/** Reads a Prometheus text page. Counters and gauges by name and label; nothing else is interpreted. */
import { fetchText } from "./http.ts";

export type Sample = {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
};

const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([^ ]+)/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g;

export class Metrics {
  readonly samples: readonly Sample[];

  constructor(text: string) {
    this.samples = text.split("\n").flatMap(parse);
  }

  /** Sum over all series of `name` that carry these labels; 0 when there is none. */
  sum(name: string, labels: Readonly<Record<string, string>> = {}): number {
    return this.#select(name, labels).reduce((total, { value }) => total + value, 0);
  }

  has(name: string): boolean {
    return this.samples.some((sample) => sample.name === name);
  }

  /** Values of `name` by the value of one label. */
  by(name: string, label: string): ReadonlyMap<string, number> {
    const found = new Map<string, number>();
    for (const { labels, value } of this.#select(name, {})) {
      const key = labels[label] ?? "";
      found.set(key, (found.get(key) ?? 0) + value);
    }
    return found;
  }

  #select(name: string, labels: Readonly<Record<string, string>>): readonly Sample[] {
    const wanted = Object.entries(labels);
    return this.samples.filter((sample) => sample.name === name && wanted.every(([k, v]) => sample.labels[k] === v));
  }
}

function parse(line: string): Sample[] {
  const match = line.startsWith("#") ? null : SAMPLE.exec(line);
  if (!match) return [];
  const labels = Object.fromEntries(
    [...(match[2] ?? "").matchAll(LABEL)].map(([, key, value]) => [key ?? "", value ?? ""]),
  );
  return [{ name: match[1] ?? "", labels, value: Number(match[3]) }];
}

export async function scrape(address: string, ca?: string): Promise<Metrics> {
  const url = `${ca ? "https" : "http"}://${address}/metrics`;
  const { status, text } = await fetchText(url, ca ? { ca } : {});
  if (status !== 200) throw new Error(`${url} answered ${status}: ${text.slice(0, 200)}`);
  return new Metrics(text);
}
