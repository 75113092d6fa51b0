/** The sentences of the ingress, for any order of what agents do, what links do, what the caller writes and when it leaves. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import type { AgentId } from "../../actors/ids.ts";
import { failed } from "../../src/failed.ts";
import type { Stream } from "../../src/link/stream.ts";
import { StreamCluster } from "../support/stream-cluster.ts";
import type { Kas } from "../support/stream-node.ts";
import { type Behaviour, call, Heard, Served, turns } from "../support/streams.ts";

const agent = 7 as AgentId;

/** What becomes of one attempt. */
const FATES = [
  "answers",
  "answers early",
  "refuses",
  "refuses for good",
  "dies at once",
  "accepts and dies",
  "answers and dies",
  "fails",
  "says busy without proof",
  "waits",
] as const;
type Fate = (typeof FATES)[number];

const STEPS = ["write", "write much", "pause", "cancel", "cut the peer link", "time"] as const;
type Step = (typeof STEPS)[number];

const fate = fc.constantFrom(...FATES);
const step = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom<Step>("write", "write much", "pause") },
  { weight: 1, arbitrary: fc.constantFrom<Step>("cancel", "cut the peer link", "time") },
);
const script = fc.record({
  remote: fc.boolean(),
  idempotent: fc.boolean(),
  fates: fc.array(fate, { minLength: 1, maxLength: 5 }),
  steps: fc.array(step, { maxLength: 12 }),
});

/** Each attempt meets the next fate; after the last all are answered. */
function fated(fates: readonly Fate[], die: { count: number }): Behaviour {
  let attempts = 0;
  return (open, stream, by, cut) => {
    const met = fates[attempts++] ?? "answers";
    const served: Served = new Served(open, stream, by, () => {
      if (met === "answers") served.answer("whole");
    });
    const soon = (run: () => void) => void turns(6).then(run);
    const dies = () => {
      die.count++;
      cut();
    };
    switch (met) {
      case "refuses":
        throw failed("busy", "not now");
      case "refuses for good":
        throw failed("forbidden", "never");
      case "dies at once":
        dies();
        break;
      case "accepts and dies":
        stream.accept();
        soon(dies);
        break;
      case "answers and dies":
        stream.head(new Uint8Array([1]));
        soon(dies);
        break;
      case "answers early":
        served.answer("early");
        served.stops = true;
        stream.stop();
        break;
      case "fails":
      case "says busy without proof": {
        stream.accept();
        const code = met === "fails" ? "upstream-unreachable" : "busy";
        soon(() => stream.reset({ failure: failure(code, "it failed"), unprocessed: false }));
        break;
      }
      case "answers":
      case "waits":
        break;
    }
    return served;
  };
}

/** Bytes that tell where they belong. */
const pattern = (from: number, length: number) => Uint8Array.from({ length }, (_, i) => (from + i) % 251);

type Script = typeof script extends fc.Arbitrary<infer Value> ? Value : never;

/** A caller whose nodes, links and agents do what the script says. */
class Play {
  readonly #cluster: StreamCluster;
  readonly #ingress: Kas;
  readonly #holder: Kas;
  readonly #died = { count: 0 };
  readonly #behaviour: Behaviour;
  readonly #script: Script;
  readonly heard: Heard = new Heard();
  sent = 0;
  cancelled = false;

  constructor(cluster: StreamCluster, ingress: Kas, holder: Kas, played: Script) {
    this.#cluster = cluster;
    this.#ingress = ingress;
    this.#holder = holder;
    this.#script = played;
    this.#behaviour = fated(played.fates, this.#died);
  }

  async run(): Promise<void> {
    const { idempotent, steps } = this.#script;
    this.#died.count = 2;
    await this.#revive();
    await this.#cluster.pass(500);
    const changes = { idempotent, method: idempotent ? "GET" : "POST", acceptWithin: 6_000, timeLeft: 9_000 };
    const { stream } = call(this.#ingress.router, agent, changes, null, this.heard);
    expect(this.heard.told).toEqual([]);
    for (const what of steps) {
      await this.#step(what, stream);
      await this.#revive();
    }
    stream.end();
    for (let i = 0; i < 40 && !this.heard.isOver; i++) {
      await this.#cluster.pass(400);
      await this.#revive();
    }
    await turns();
  }

  /** Agents come back, as their processes do. */
  async #revive(): Promise<void> {
    for (; this.#died.count > 0; this.#died.count--) await this.#holder.agent(agent, this.#behaviour);
  }

  async #step(what: Step, stream: Stream): Promise<void> {
    switch (what) {
      case "write":
        return this.#write(stream, 1_000);
      case "write much":
        return this.#write(stream, 90_000);
      case "pause":
        return turns(12);
      case "time":
        return this.#cluster.pass(400);
      case "cut the peer link":
        this.#ingress.wires.get(this.#holder.id)?.cutAfter(0);
        return;
      case "cancel":
        this.cancelled ||= !this.heard.isOver;
        stream.reset({ failure: failure("cancelled", "the caller left"), unprocessed: false });
    }
  }

  #write(stream: Stream, length: number): void {
    if (this.cancelled) return;
    stream.data(pattern(this.sent, length));
    this.sent += length;
  }
}

async function run(played: Script): Promise<void> {
  const [cluster, ingress, other] = await StreamCluster.of(...(played.remote ? ["a", "b"] : ["a"]));
  if (!ingress) throw new RangeError("no node");
  await using _all = cluster;
  const play = new Play(cluster, ingress, other ?? ingress, played);
  await play.run();
  const { heard, sent, cancelled } = play;
  check(cluster, heard.told, heard.body.toString("latin1"), { idempotent: played.idempotent, sent, cancelled });
  cluster.expectQuiet();
}

type Facts = { readonly idempotent: boolean; readonly sent: number; readonly cancelled: boolean };

function check({ served, nodes }: StreamCluster, told: readonly string[], body: string, facts: Facts): void {
  const count = (what: string) => told.filter((event) => event === what).length;
  expect(count("closed")).toBe(1);
  expect(told.at(-1)).toBe("closed");
  expect(count("accepted")).toBeLessThanOrEqual(1);
  expect(told.filter((event) => event.startsWith("reset")).length).toBeLessThanOrEqual(1);
  const ended = told.includes("end") && !told.some((event) => event.startsWith("reset")) && !facts.cancelled;
  if (ended) expect(["whole", "early"]).toContain(body);
  if (!ended && !facts.cancelled) expect(told.some((event) => event.startsWith("reset"))).toBe(true);
  for (const code of ["node-gone", "busy", "draining", "not-owner"]) expect(told).not.toContain(`reset ${code}`);
  if (!facts.idempotent) expect(served.length).toBeLessThanOrEqual(1);
  for (const { chunks, told: heard, stops } of served) {
    const got = Buffer.concat(chunks);
    expect(got.equals(pattern(0, got.length)), "in order").toBe(true);
    if (heard.includes("end") && !stops && !facts.cancelled) expect(got.length, "whole").toBe(facts.sent);
    expect(heard.filter((event) => event === "closed")).toHaveLength(1);
  }
  const [ingress] = nodes;
  expect((ingress?.meter.routes.length ?? 0) + (ingress?.meter.unrouteds.length ?? 0)).toBe(1);
}

it("hands a request that may not be repeated to one executor at most, its body whole and in order, and ends it once", async () => {
  await fc.assert(fc.asyncProperty(script, run), { numRuns: 100 });
}, 30_000);
