/**
 * Three nodes behind a TCP balancer that follows readiness, rolled one after the other under load from callers that keep their
 * connections, with sessions that stay open. Nothing fails but what is still open at the drain's deadline.
 */
import { Agent } from "node:http";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FaultyProxy } from "./support/faulty-proxy.ts";
import { History, took, wasAnswered } from "./support/history.ts";
import { upgrade } from "./support/http.ts";
import type { LeakGate } from "./support/leak-gate.ts";
import { needNats } from "./support/need.ts";
import { printOnFailure, report, Scene } from "./support/scene.ts";
import { PREFIX } from "./support/settings.ts";
import { until } from "./support/wait.ts";

const nats = await needNats();
const ALL = [0, 1, 2] as const;
const PER_SECOND = 200;
const SESSIONS = 20;
const DRAIN_SECONDS = 20;
/** A health check every so often, as balancers do; its result is what new connections go by. */
const CHECK_EVERY = 500;

describe.skipIf(!nats)("a rolling restart", () => {
  let scene: Scene;
  let gate: LeakGate;
  printOnFailure(() => scene);
  const ready = new Set<number>(ALL);
  const checks = new AbortController();
  let turn = 0;

  beforeAll(async () => {
    const grace = { listen: { listen_grace_period: "5s" } };
    scene = await Scene.start({
      nodes: 3,
      settings: { drain_timeout: `${DRAIN_SECONDS}s`, agent: { ...grace, kubernetes_api: grace } },
      agents: [
        { id: 1, on: [0, 1, 2] },
        { id: 1, on: [1, 2, 0] },
        { id: 2, on: [2, 0, 1] },
        { id: 2, on: [0, 2, 1] },
        { id: 3, on: [1, 0, 2] },
      ],
    });
    gate = await scene.cluster.leakGate();
    void check();
  }, 120_000);
  afterAll(async () => {
    checks.abort();
    await scene?.[Symbol.asyncDispose]();
  });

  async function check(): Promise<void> {
    while (!checks.signal.aborted) {
      for (const index of ALL) {
        const { status } = await scene.cluster
          .node(index)
          .observe("/readiness")
          .catch(() => ({ status: 0 }));
        if (status === 200) {
          ready.add(index);
          scene.avoid.delete(index);
        } else {
          ready.delete(index);
          scene.avoid.add(index);
        }
      }
      await sleep(CHECK_EVERY);
    }
  }

  /** Round robin over the ready nodes, then whoever takes it. */
  const targets = () => {
    turn += 1;
    const order = ALL.map((_, n) => (n + turn) % ALL.length).filter((index) => ready.has(index));
    return order.map((index) => scene.cluster.node(index).address("kubernetes_api"));
  };

  it(`F9: fails none of ${PER_SECOND} requests a second while three nodes are restarted, and cuts sessions only at the drain's deadline`, async () => {
    await using balancer = await FaultyProxy.listen(targets);
    using http = kept();
    const base = `http://${balancer.address}${PREFIX}`;
    const history = new History(
      { url: (_node, path) => base + path, headers: (agent) => scene.cluster.credential(agent), http: http.agent },
      scene.upstreams,
    );
    const sessions = await Promise.all(
      Array.from({ length: SESSIONS }, async (_, n) => await Session.open(base, scene.cluster.credential(1 + (n % 3)))),
    );
    const load = history.load({ name: "roll", agents: [1, 2, 3], nodes: [0], perSecond: PER_SECOND });
    const drains: { node: number; signalled: number; ended: number }[] = [];
    for (const node of ALL) {
      await sleep(1_000);
      const signalled = performance.now();
      await scene.cluster.node(node).child.stop((DRAIN_SECONDS + 15) * 1_000);
      drains.push({ node, signalled, ended: performance.now() });
      await scene.cluster.restart(node);
      await until("the balancer to see it", () => ready.has(node));
    }
    await sleep(1_000);
    const entries = await load.stop();
    const cuts = sessions.map((session) => session.ended).filter((ended) => ended > 0);
    const early = cuts.filter((at) => !drains.some(({ signalled }) => at >= signalled + DRAIN_SECONDS * 1_000 - 500));
    const summary = history.verify();
    report("F9", {
      ...summary,
      slowest: Math.max(...entries.map(took)),
      cuts: cuts.length,
      early: early.length,
      drains: drains.map(({ signalled, ended }) => Math.round(ended - signalled)),
    });
    for (const session of sessions) session.close();

    expect(entries.filter((entry) => !wasAnswered(entry))).toEqual([]);
    expect(early, "sessions cut before the drain's deadline").toEqual([]);
    expect(sessions.filter((session) => !session.inOrder)).toEqual([]);
    http.agent.destroy();
    await scene.end(gate, { within: 30_000, moreHandles: 6 });
  }, 240_000);
});

function kept(): { readonly agent: Agent } & Disposable {
  const agent = new Agent({ keepAlive: true, maxSockets: 64 });
  return { agent, [Symbol.dispose]: () => agent.destroy() };
}

/** As an exec: an upgraded connection on which a line goes and comes every 100 ms. */
class Session {
  readonly #socket: Duplex;
  readonly #timer: NodeJS.Timeout;
  #sent = "";
  #heard = "";
  #lines = 0;
  /** When the connection ended, if it did before `close`. */
  ended = 0;

  private constructor(socket: Duplex) {
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.#heard += chunk.toString();
    });
    socket.on("error", () => {});
    socket.once("close", () => {
      clearInterval(this.#timer);
      this.ended ||= performance.now();
    });
    this.#timer = setInterval(() => this.#write(), 100);
  }

  static async open(base: string, headers: Readonly<Record<string, string>>): Promise<Session> {
    const opened = await upgrade(`${base}services/upstream/echo`, { headers });
    if (!("socket" in opened)) throw new Error(`no upgrade: ${opened.answer.statusCode}`);
    return new Session(opened.socket);
  }

  #write(): void {
    const line = `${this.#lines++}\n`;
    this.#sent += line;
    this.#socket.write(line);
  }

  /** What came back is what was sent, up to where it was cut. */
  get inOrder(): boolean {
    return this.#sent.startsWith(this.#heard) && this.#heard.length > 0;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#socket.removeAllListeners("close");
    this.#socket.destroy();
  }
}
