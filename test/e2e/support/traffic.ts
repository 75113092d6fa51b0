/**
 * POSTs without pause until it is stopped, each with an id of its own, and afterwards the verdict: what was answered with
 * success ran once, what was refused with proof never ran, and nothing ran twice.
 */
import { expect } from "vitest";
import { fetchText } from "./http.ts";
import type { Upstream } from "./upstream.ts";

export type Outcome = {
  readonly id: string;
  /** 0: the connection broke, as it must when the ingress itself was killed. */
  readonly status: number;
  readonly failureCode: string;
  readonly retryAfter: string;
  readonly took: number;
};

export type TrafficOptions = {
  readonly name: string;
  readonly method: "GET" | "POST";
  /** One loop each. */
  readonly urls: readonly ((id: string) => string)[];
  readonly headers: Readonly<Record<string, string>>;
  readonly ca: string | undefined;
};

export class Traffic {
  readonly outcomes: Outcome[] = [];
  readonly #options: TrafficOptions;
  readonly #loops: Promise<unknown>;
  #stopped = false;

  constructor(options: TrafficOptions) {
    this.#options = options;
    this.#loops = Promise.all(options.urls.map(async (url, index) => await this.#loop(url, index)));
  }

  async #loop(url: (id: string) => string, index: number): Promise<void> {
    for (let n = 0; !this.#stopped; n++) await this.#send(url, `${this.#options.name}-${index}-${n}`);
  }

  async #send(url: (id: string) => string, id: string): Promise<void> {
    const { method, headers, ca } = this.#options;
    const started = performance.now();
    const common = { method, headers, within: 20_000, ...(ca && { ca }) };
    const body = method === "POST" ? { body: id } : {};
    const outcome = await fetchText(url(id), { ...common, ...body }).then(
      ({ status, headers: got }) => ({
        status,
        failureCode: String(got["failure-code"] ?? ""),
        retryAfter: String(got["retry-after"] ?? ""),
      }),
      () => ({ status: 0, failureCode: "", retryAfter: "" }),
    );
    this.outcomes.push({ id, ...outcome, took: performance.now() - started });
    if (outcome.status === 0) await new Promise((resolve) => setTimeout(resolve, 50));
  }

  /** Ends the loops and waits for what is under way. */
  async stop(): Promise<readonly Outcome[]> {
    this.#stopped = true;
    await this.#loops;
    return this.outcomes;
  }
}

/** Codes that promise that nothing ran. */
export const PROOF = new Set(["agent-offline", "node-gone", "draining", "busy", "cluster-unavailable"]);

/** Compares what callers were told with what the upstream saw. */
export function expectAtMostOnce(outcomes: readonly Outcome[], upstream: Upstream): void {
  const ran = (id: string) => upstream.executions.get(id) ?? 0;
  expect(upstream.twice(), "requests that ran twice").toEqual([]);
  for (const outcome of outcomes) {
    if (outcome.status === 200) expect(ran(outcome.id), `${outcome.id} was answered 200`).toBe(1);
    if (PROOF.has(outcome.failureCode)) expect(ran(outcome.id), `${outcome.id}: ${outcome.failureCode}`).toBe(0);
    if (outcome.failureCode === "outcome-unknown") {
      expect(outcome, "nobody is invited to repeat what may have run").toMatchObject({ status: 502, retryAfter: "" });
    }
  }
  const unexplained = outcomes.filter(
    ({ status, failureCode }) =>
      status !== 200 && status !== 0 && !PROOF.has(failureCode) && failureCode !== "outcome-unknown",
  );
  expect(unexplained, "failures without a code that says whether it ran").toEqual([]);
}
