/**
 * A node that leaves, by SIGTERM and by an operator: its streams end by class, its agents go one after the other, nothing
 * that is asked meanwhile fails. What an operator started can be taken back, and `kasctl rebalance` fills the node again.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { Child } from "./support/child.ts";
import { FaultyProxy } from "./support/faulty-proxy.ts";
import { wasAnswered } from "./support/history.ts";
import { request, upgrade } from "./support/http.ts";
import { NODE } from "./support/kas-node.ts";
import { needNats } from "./support/need.ts";
import { ROOT } from "./support/run-dir.ts";
import { printOnFailure, report, Scene } from "./support/scene.ts";
import { agentToken, merge, staticFile, type Tree } from "./support/settings.ts";
import { until } from "./support/wait.ts";

const nats = await needNats();
const SECONDS = { drain: 12, watches: 4, requests: 8 } as const;
const FIRST = 1_000;
const FLEET = 200;

const drainSettings = (seconds: number): Tree => ({
  drain_timeout: `${seconds}s`,
  timings: { drain_watches_within: `${SECONDS.watches}s`, drain_requests_within: `${SECONDS.requests}s` },
});

describe.skipIf(!nats)("a node that leaves", () => {
  let scene: Scene;
  printOnFailure(() => scene);
  afterEach(async () => await scene?.[Symbol.asyncDispose]());

  const url = (node: number, path: string) => scene.cluster.proxyUrl(node, `services/upstream${path}`);
  const headers = (agent: number) => scene.cluster.credential(agent);

  /** When it ended, and whether it looked whole. */
  function ending(stream: Readable & { readonly complete?: boolean }) {
    const end = { at: 0, whole: false };
    stream.on("error", () => {});
    stream.on("data", () => {});
    stream.once("close", () => {
      end.at = performance.now();
      end.whole = stream.complete ?? stream.readableEnded;
    });
    return end;
  }
  const opened = async (node: number, agent: number, path: string) =>
    ending(await request(url(node, path), { headers: headers(agent), within: 60_000 }));
  async function session(node: number, agent: number) {
    const asked = await upgrade(url(node, "/echo"), { headers: headers(agent), within: 60_000 });
    if (!("socket" in asked)) throw new Error(`no upgrade: ${asked.answer.statusCode}`);
    return ending(asked.socket);
  }

  it("ends watches first, then other requests, sessions last, whichever node they came in at; others go on", async () => {
    scene = await Scene.start({
      nodes: 2,
      settings: drainSettings(SECONDS.drain),
      agents: [
        { id: 1, on: [0, 1] },
        { id: 2, on: [1, 0] },
      ],
    });
    const watches = await Promise.all(
      [0, 1, 0, 1].map((node, n) => opened(node, node === 1 ? 1 : 1 + (n % 2), "/watch?watch=true&n=1000")),
    );
    const requests = [await opened(1, 1, "/slow?chunks=1000&ms=100"), await opened(0, 1, "/slow?chunks=1000&ms=100")];
    const sessions = [await session(1, 1), await session(0, 1), await session(0, 2)];
    const elsewhere = [await session(1, 2), await opened(1, 2, "/watch?watch=true")];
    const load = scene.history.load({ name: "beside", agents: [1, 2], nodes: [1], perSecond: 50 });
    const signalled = performance.now();
    const { code } = await scene.cluster.node(0).child.stop((SECONDS.drain + 10) * 1_000);
    const took = performance.now() - signalled;
    const entries = await load.stop();
    const after = ({ at }: { readonly at: number }) => Math.round(at - signalled);
    await sleep(200);
    report("drain by class", {
      watches: watches.map(after),
      requests: requests.map(after),
      sessions: sessions.map(after),
      took,
    });

    expect(code).toBe(0);
    expect([...watches, ...requests].filter(({ whole }) => whole)).toEqual([]);
    for (const watch of watches) expect(after(watch)).toBeGreaterThan(900);
    // Each class before the next: watches of 4 s, requests of 8 s, sessions of 12 s, on a machine that may be busy.
    for (const watch of watches) expect(after(watch)).toBeLessThan((SECONDS.requests - 1) * 1_000);
    expect(Math.max(...watches.map(after)) - Math.min(...watches.map(after))).toBeGreaterThan(1_000);
    expect(after(requests[0] ?? { at: 0 })).toBeGreaterThan((SECONDS.requests - 0.5) * 1_000);
    expect(after(requests[0] ?? { at: 0 })).toBeLessThan((SECONDS.drain - 1) * 1_000);
    for (const one of sessions) expect(after(one)).toBeGreaterThan((SECONDS.drain - 0.5) * 1_000);
    expect(elsewhere.filter(({ at }) => at > 0)).toEqual([]);
    expect(entries.filter((entry) => !wasAnswered(entry))).toEqual([]);
    scene.history.verify();
  }, 120_000);

  it("ends at once at the second SIGTERM", async () => {
    scene = await Scene.start({ nodes: 2, settings: drainSettings(60), agents: [{ id: 1, on: [0, 1] }] });
    const open = await session(0, 1);
    const { child } = scene.cluster.node(0);
    child.signal("SIGTERM");
    await until("it to drain", async () => (await scene.cluster.node(0).observe("/readiness")).status === 503);
    await sleep(2_000);
    expect([child.alive, open.at]).toEqual([true, 0]);
    const signalled = performance.now();
    child.signal("SIGTERM");
    const { code } = await child.exited;
    expect(code).toBe(143);
    expect(performance.now() - signalled).toBeLessThan(2_000);
    await until("the session to end", () => open.at > 0);
  }, 60_000);

  it(`does what an admin says with kasctl: ${FLEET} agents go and come back, spread, and no request fails`, async () => {
    const usual = staticFile();
    const more = Array.from({ length: FLEET }, (_, n) => ({
      id: FIRST + n,
      name: `many-${n}`,
      project_id: 10,
      tokens: [agentToken(FIRST + n)],
    }));
    const viewer = { name: "dashboard", tokens: ["view-token"], role: "viewer" };
    scene = await Scene.start({
      nodes: 2,
      // Nothing but the drain itself spreads them.
      settings: merge(drainSettings(10), {
        agent: { listen: { handshakes_per_second: 0 } },
        timings: { rebalance_after: "1h" },
      }),
      users: merge(usual, {
        agents: [...(usual.agents as readonly unknown[]), ...more],
        operators: [...(usual.operators as readonly unknown[]), viewer],
      }),
      agents: [
        { id: 1, on: [0, 1] },
        { id: 2, on: [0, 1] },
      ],
    });
    const [tokenFile, viewerFile] = [scene.cluster.dir.file("operator"), scene.cluster.dir.file("viewer")];
    writeFileSync(tokenFile, "sre-token");
    writeFileSync(viewerFile, "view-token");
    const kasctl = async (file: string, ...args: readonly string[]) => {
      const server = `http://${scene.cluster.node(0).address("observability")}`;
      const all = [join(ROOT, "bin", "kasctl.js"), ...args, "--server", server, "--token-file", file, "-o", "json"];
      const child = new Child({ name: `kasctl-${args[0]}`, command: NODE, args: all, dir: scene.cluster.dir });
      const { code } = await child.exited;
      return {
        code,
        said: code === 0 ? (JSON.parse(child.text()) as Record<string, unknown>) : {},
        err: child.stderr(),
      };
    };
    const ready = async (node: number) => (await scene.cluster.node(node).observe("/readiness")).status === 200;
    // Stands for a balancer: in the order of `prefer`, so that the first node has agents to move, and by chance once that is empty.
    let prefer: readonly number[] = [0, 1];
    await using proxy = await FaultyProxy.listen(() => {
      const order = prefer.length > 0 ? prefer : Math.random() < 0.5 ? [0, 1] : [1, 0];
      return order.filter((n) => !scene.avoid.has(n)).map((n) => scene.cluster.node(n).address("agent"));
    });
    await using fleet = new Child({
      name: "fleet",
      command: NODE,
      args: [
        join(ROOT, "test", "e2e", "support", "many-agents.ts"),
        proxy.address,
        `${FIRST}`,
        `${FLEET}`,
        scene.upstream(1).url,
      ],
      dir: scene.cluster.dir,
    });
    await fleet.line("all agents to connect", ({ msg }) => msg === "all", 60_000);
    const held = async (n: number) => (await scene.cluster.node(n).metrics()).sum("kas_agents_connected");
    expect(await held(0)).toBe(FLEET + 2);
    expect((await kasctl(tokenFile, "disconnect", "2")).said).toMatchObject({ agentId: 2, disconnected: 1 });
    await scene.of(2).agent.connected(2);
    await until("it to be there again", async () => (await held(0)) === FLEET + 2);
    const load = scene.history.load({ name: "beside", agents: [1, 2], nodes: [0, 1], perSecond: 50 });

    for (const verb of [["drain"], ["undrain"], ["rebalance"], ["disconnect", "1"]] as const) {
      const { code, err } = await kasctl(viewerFile, ...verb);
      expect([code, err], verb[0]).toEqual([1, expect.stringMatching(/dashboard is a viewer.*admin/)]);
    }
    expect(await ready(0)).toBe(true);

    scene.avoid.add(0);
    const drained = Date.now();
    expect((await kasctl(tokenFile, "drain")).said).toMatchObject({ phase: "draining" });
    expect(await ready(0)).toBe(false);
    await until("all agents to be on the other node", async () => (await held(1)) === FLEET + 2, { within: 30_000 });
    const movedAt = () =>
      fleet.lines.flatMap(({ msg, at }) =>
        msg === "connected" && Number(at) >= drained ? [Number(at) - drained] : [],
      );
    await until("all agents to have said so", () => movedAt().length >= FLEET);
    const moves = movedAt();
    expect(scene.cluster.node(0).alive).toBe(true);

    scene.avoid.clear();
    prefer = [];
    expect((await kasctl(tokenFile, "undrain")).said).toMatchObject({ phase: "up" });
    expect(await ready(0)).toBe(true);
    await scene.settled();
    const { said } = await kasctl(tokenFile, "rebalance");
    expect(said).toMatchObject({ complete: true, missing: [] });
    await until("the agents to be spread", async () => (await held(0)) >= 0.45 * FLEET, { within: 30_000 });
    const entries = await load.stop();
    const busiest = Math.max(...moves.map((from) => moves.filter((at) => at >= from && at < from + 200).length));
    report("kasctl", {
      moved: moves.length,
      busiest,
      last: Math.max(...moves),
      spread: [await held(0), await held(1)],
    });
    expect(moves).toHaveLength(FLEET);
    expect(busiest, "agents that came in 200 ms").toBeLessThan(0.75 * FLEET);
    expect(entries.filter((entry) => !wasAnswered(entry))).toEqual([]);
    await fleet.stop();
  }, 180_000);
});
