/**
 * A caller that writes down everything: each request's id, agent, node, start, end and outcome. `verify` compares that with
 * what every agent's upstream saw, and fails on the first thing that must never be, whatever happened in between:
 * a request that ran twice and may not, at the wrong agent, or after a refusal that proves that it did not run; an answer
 * that came from another agent, or was cut and looked whole; a request that outlived its bound.
 */
import type { Agent } from "node:http";
import { text as readText } from "node:stream/consumers";
import { expect } from "vitest";
import { request } from "./http.ts";
import { PROOF } from "./traffic.ts";
import type { Upstream } from "./upstream.ts";

export type Outcome =
  | { readonly type: "pending" }
  /** Nothing came within its bound. */
  | { readonly type: "hung" }
  /** Visibly broken: the connection ended before the answer did. */
  | { readonly type: "broken"; readonly reason: string; readonly text: string }
  | {
      readonly type: "answered";
      readonly status: number;
      readonly failureCode: string;
      readonly retryAfter: string;
      readonly by: string;
      readonly text: string;
    };

export type Entry = {
  readonly id: string;
  readonly agent: number;
  readonly node: number;
  readonly method: "GET" | "POST";
  readonly start: number;
  /** Negative while it is pending. */
  end: number;
  outcome: Outcome;
};

export type Send = {
  readonly agent: number;
  readonly node: number;
  readonly method?: "GET" | "POST";
  /** Path of the upstream, without id. */
  readonly path?: string;
  /** It must have ended by then. */
  readonly bound?: number;
  readonly signal?: AbortSignal;
};

export type Caller = {
  readonly url: (node: number, path: string) => string;
  readonly headers: (agent: number) => Readonly<Record<string, string>>;
  /** Keeps connections. */
  readonly http?: Agent;
};

export type Load = {
  readonly name: string;
  readonly agents: readonly number[];
  readonly nodes: readonly number[];
  readonly perSecond: number;
  /** Every so many requests is a POST. */
  readonly postEvery?: number;
  readonly path?: string;
  readonly bound?: number;
};

/** Failures that may follow from a fault, besides those that prove that nothing ran. */
const EXPLAINED = new Set(["outcome-unknown", "deadline", "upstream-unreachable"]);
const BOUND = 30_000;

export class History {
  readonly entries: Entry[] = [];
  readonly #caller: Caller;
  readonly #upstreams: ReadonlyMap<number, Upstream>;
  #count = 0;

  /** `upstreams`: one per agent, named after it. */
  constructor(caller: Caller, upstreams: ReadonlyMap<number, Upstream>) {
    this.#caller = caller;
    this.#upstreams = upstreams;
  }

  /** Never rejects: what became of it is in the entry. */
  async send(send: Send, name = "r"): Promise<Entry> {
    return await this.begin(send, name).ended;
  }

  /** The same, for who needs its id while it runs. */
  begin(
    { agent, node, method = "GET", path = "/answer", bound = BOUND, signal }: Send,
    name = "r",
  ): { readonly entry: Entry; readonly ended: Promise<Entry> } {
    this.#count += 1;
    const id = `${name}-a${agent}-n${node}-${this.#count}`;
    const entry: Entry = {
      id,
      agent,
      node,
      method,
      start: performance.now(),
      end: -1,
      outcome: { type: "pending" },
    };
    this.entries.push(entry);
    const url = this.#caller.url(node, `services/upstream${path}${path.includes("?") ? "&" : "?"}id=${id}`);
    const given = signal ? [signal] : [];
    const ended = this.#outcome(url, entry, bound, given).then((outcome) => {
      entry.end = performance.now();
      entry.outcome = outcome;
      return entry;
    });
    return { entry, ended };
  }

  async #outcome(url: string, entry: Entry, bound: number, given: readonly AbortSignal[]): Promise<Outcome> {
    const late = AbortSignal.timeout(bound);
    const { http, headers } = this.#caller;
    let text = "";
    try {
      const answer = await request(url, {
        method: entry.method,
        headers: headers(entry.agent),
        signal: AbortSignal.any([late, ...given]),
        within: bound,
        ...(http && { agent: http }),
        ...(entry.method === "POST" && { body: entry.id }),
      });
      answer.on("data", (chunk: Buffer) => {
        text += chunk.toString("latin1");
      });
      await readText(answer);
      return {
        type: "answered",
        status: answer.statusCode ?? 0,
        failureCode: String(answer.headers["failure-code"] ?? ""),
        retryAfter: String(answer.headers["retry-after"] ?? ""),
        by: String(answer.headers["x-upstream"] ?? ""),
        text,
      };
    } catch (error) {
      if (late.aborted) return { type: "hung" };
      return { type: "broken", reason: String(error), text };
    }
  }

  /** Sends at a steady rate, whatever becomes of what was sent before. Stop it and wait for what is under way. */
  load(load: Load): { stop(): Promise<readonly Entry[]> } {
    const { name, agents, nodes, perSecond, postEvery = 5, path = "/answer", bound = BOUND } = load;
    const sent: Promise<Entry>[] = [];
    const began = performance.now();
    const timer = setInterval(() => {
      const due = Math.floor(((performance.now() - began) / 1_000) * perSecond);
      while (sent.length < due) {
        const n = sent.length;
        const agent = agents[n % agents.length] ?? 0;
        const node = nodes[Math.floor(n / agents.length) % nodes.length] ?? 0;
        const method = n % postEvery === postEvery - 1 ? "POST" : "GET";
        sent.push(this.send({ agent, node, method, path, bound }, name));
      }
    }, 5);
    return {
      stop: async () => {
        clearInterval(timer);
        return await Promise.all(sent);
      },
    };
  }

  executions(id: string): ReadonlyMap<number, number> {
    const ran = [...this.#upstreams].map(([agent, { executions }]) => [agent, executions.get(id) ?? 0] as const);
    return new Map(ran.filter(([, count]) => count > 0));
  }

  /** Fails with every entry that must not be. */
  verify(): Summary {
    const faults = this.entries.flatMap((entry) => violations(entry, this.executions(entry.id)));
    expect(faults).toEqual([]);
    return summary(this.entries);
  }

  clear(): void {
    this.entries.length = 0;
    for (const { executions } of this.#upstreams.values()) executions.clear();
  }
}

function violations(entry: Entry, executions: ReadonlyMap<number, number>): readonly string[] {
  const { id, agent, method, outcome } = entry;
  const found: string[] = [];
  const ran = [...executions.values()].reduce((sum, count) => sum + count, 0);
  const others = [...executions.keys()].filter((executor) => executor !== agent);
  if (others.length > 0) found.push(`ran at agents ${others}, not at ${agent}`);
  if (method === "POST" && ran > 1) found.push(`a POST ran ${ran} times`);
  switch (outcome.type) {
    case "pending":
    case "hung":
      found.push(`${outcome.type}: it never ended`);
      break;
    case "broken":
      if (!isOwn(outcome.text, id)) found.push(`got bytes of another request: ${outcome.text.slice(0, 200)}`);
      break;
    case "answered":
      found.push(...wrongAnswer(entry, outcome, ran));
  }
  return found.map((text) => `${id}: ${text}; outcome ${JSON.stringify(outcome).slice(0, 300)}`);
}

function wrongAnswer({ id, agent }: Entry, outcome: Outcome & { readonly type: "answered" }, ran: number) {
  const { status, failureCode, retryAfter, by, text } = outcome;
  const found: string[] = [];
  if (status === 200) {
    if (by !== String(agent)) found.push(`answered by agent ${by}`);
    if (ran < 1) found.push("answered 200 and never ran");
    if (!isOwn(text, id)) found.push("has bytes of another request");
    if (!isWhole(text, id)) found.push("half an answer looked whole");
  } else if (PROOF.has(failureCode)) {
    if (ran > 0) found.push(`refused with proof (${failureCode}) and ran ${ran} times`);
  } else if (!EXPLAINED.has(failureCode)) found.push("a failure without a code that says whether it ran");
  if (failureCode === "outcome-unknown" && retryAfter) found.push("invites to repeat what may have run");
  return found;
}

const PIECE = /^(?:piece|end) (\S+)$/;

/** No line that names another request; the last line may be cut. */
function isOwn(text: string, id: string): boolean {
  return text
    .split("\n")
    .slice(0, -1)
    .every((line) => {
      const named = PIECE.exec(line)?.[1];
      return named === undefined || named === id;
    });
}

const isWhole = (text: string, id: string) => text.endsWith(`end ${id}\n`) || text === "released" || text === "hello";

export type Summary = {
  readonly total: number;
  readonly ok: number;
  /** How many ended otherwise, by failure code or `broken`. */
  readonly failed: Readonly<Record<string, number>>;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
};

export const wasAnswered = ({ outcome }: Entry): boolean => outcome.type === "answered" && outcome.status === 200;
export const took = ({ start, end }: Entry): number => end - start;
export const codeOf = ({ outcome }: Entry): string =>
  outcome.type === "answered" ? outcome.failureCode || String(outcome.status) : outcome.type;

export function summary(entries: readonly Entry[]): Summary {
  const failed: Record<string, number> = {};
  for (const entry of entries) {
    if (wasAnswered(entry)) continue;
    const code = codeOf(entry);
    failed[code] = (failed[code] ?? 0) + 1;
  }
  const times = entries
    .filter(wasAnswered)
    .map(took)
    .toSorted((a, b) => a - b);
  const at = (part: number) =>
    Math.round((times[Math.min(times.length - 1, Math.floor(times.length * part))] ?? 0) * 10) / 10;
  return { total: entries.length, ok: times.length, failed, p50: at(0.5), p99: at(0.99), max: at(1) };
}
