/**
 * `kas serve --workers 2`: two processes behind one set of ports, with a real nats-server. Agents and callers land on both,
 * requests cross, one is killed and comes back, all drain together, and nobody outlives the supervisor.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type NatsServer, startNatsServer } from "../support/nats-server.ts";
import { childrenOf, isAlive } from "./support/children.ts";
import { Cluster, printLogsOnFailure } from "./support/cluster.ts";
import { fetchText, request } from "./support/http.ts";
import { type KasNode, NODE } from "./support/kas-node.ts";
import { needNats } from "./support/need.ts";
import { ROOT } from "./support/run-dir.ts";
import { TOKENS, type Tree } from "./support/settings.ts";
import { Traffic } from "./support/traffic.ts";
import { Upstream } from "./support/upstream.ts";
import { until } from "./support/wait.ts";

const hasNats = await needNats();
const WORKERS = ["0", "1"] as const;
const FLEET = [1, 2, 3, 4, 5, 6] as const;
/** Backoff, start and join of a worker, times five. */
const BACK_WITHIN = 25_000;

describe.skipIf(!hasNats)("two workers behind one set of ports", () => {
  let nats: NatsServer;
  let cluster: Cluster;
  let upstream: Upstream;
  printLogsOnFailure(() => cluster);

  const start = async (settings: Tree = {}): Promise<Cluster> =>
    await Cluster.start({ nodes: 1, natsUrl: nats.url, flags: ["--workers", "2"], settings });
  const node = (): KasNode => cluster.node(0);
  const get = async (agent: number, path = "/hello") =>
    await fetchText(cluster.proxyUrl(0, `services/upstream${path}`), { headers: cluster.credential(agent) });
  const pidOf = (worker: number): number =>
    childrenOf(node().child.pid).find(({ command }) => command.endsWith(`-w${worker}`))?.pid ?? 0;
  const nodesOfAgents = () => new Set(cluster.agents.filter(({ alive }) => alive).map((agent) => agent.node));

  beforeAll(async () => {
    nats = await startNatsServer();
    upstream = await Upstream.listen();
    cluster = await start();
    const services = { upstream: upstream.url };
    for (const id of FLEET) await cluster.agent({ id, on: [0], services });
    // The kernel chooses by the agent's port: now and then all land on one.
    for (let more = 0; nodesOfAgents().size < 2 && more < 12; more++) {
      await cluster.agent({ id: FLEET[more % FLEET.length] ?? 1, on: [0], services });
    }
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await upstream?.[Symbol.asyncDispose]();
    await nats?.[Symbol.asyncDispose]();
  });

  it("says one line for each listener of the whole, and one for each worker's own", () => {
    const lines = node().child.lines.filter(({ msg }) => msg === "listening");
    const names = lines.map(({ listener, worker }) => `${listener}${worker === undefined ? "" : ` ${worker}`}`);
    expect(names).toEqual(["agent", "api", "kubernetes_api", "private_api 0", "private_api 1", "observability"]);
    expect(new Set(lines.map(({ address }) => address)).size).toBe(lines.length);
  });

  it("spreads agents and callers over both, and every request reaches its agent", async () => {
    for (let round = 0; round < 10; round++) {
      for (const agent of FLEET) expect(await get(agent)).toMatchObject({ status: 200, text: "hello" });
    }
    const metrics = await node().metrics();
    for (const worker of WORKERS) {
      expect(metrics.sum("kas_agents_connected", { worker }), `agents of worker ${worker}`).toBeGreaterThan(0);
      expect(metrics.sum("kas_proxy_requests_total", { worker }), `callers of worker ${worker}`).toBeGreaterThan(0);
      expect(metrics.sum("kas_streams_opened_total", { worker, hop: "remote" }), "crossed").toBeGreaterThan(0);
      expect(metrics.sum("kas_worker_up", { worker })).toBe(1);
      expect(metrics.sum("kas_ring_members", { worker })).toBe(2);
    }
    expect(metrics.sum("kas_proxy_requests_total")).toBe(60);
    expect(metrics.sum("process_resident_memory_bytes", { worker: "supervisor" })).toBeGreaterThan(0);
  });

  it("passes what operators ask to a worker, and their changes to all", async () => {
    const refused = await node().observe("/api/v1/nodes");
    expect(refused.status).toBe(401);
    const { status, text } = await node().observe("/api/v1/nodes", TOKENS.operator);
    expect(status).toBe(200);
    const names = JSON.parse(text).nodes.map(({ node }: { node: string }) => node.split(".")[0]);
    expect(names.toSorted()).toEqual(["kas-0-w0", "kas-0-w1"]);

    const change = async (what: string) =>
      await fetchText(`http://${node().address("observability")}/api/v1/${what}`, {
        method: "POST",
        headers: { authorization: `Bearer ${TOKENS.operator}` },
      });
    const drained = JSON.parse((await change("drain")).text);
    expect(drained.workers.map(({ phase }: { phase: string }) => phase)).toEqual(["draining", "draining"]);
    expect((await node().observe("/readiness")).status).toBe(503);
    expect((await change("undrain")).status).toBe(200);
    await node().ready();
  });

  it("starts a worker again that was killed with -9, while the other serves", async () => {
    const victim = pidOf(1);
    const before = (await node().metrics()).sum("kas_agents_connected");
    const urls = FLEET.slice(0, 4).map((agent) => {
      const base = cluster.proxyUrl(0, "");
      return { agent, url: (id: string) => `${base}services/upstream/count?id=${id}` };
    });
    const loops = urls.map(
      ({ agent, url }) =>
        new Traffic({
          name: `agent-${agent}`,
          method: "GET",
          urls: [url],
          headers: cluster.credential(agent),
          ca: undefined,
        }),
    );
    await sleep(500);
    process.kill(victim, "SIGKILL");
    await until("the worker to be missed", async () => (await node().metrics()).sum("kas_worker_up") === 1);
    expect((await node().observe("/readiness")).status).toBe(200);
    expect((await node().observe("/liveness")).status).toBe(200);
    const whole = async () => (await node().metrics()).sum("kas_worker_up") === 2;
    await until("the worker to be back", whole, { within: BACK_WITHIN });
    await until("its agents to be back", async () => {
      return (await node().metrics()).sum("kas_agents_connected") >= Math.min(before, FLEET.length);
    });
    await sleep(1_000);

    const outcomes = (await Promise.all(loops.map(async (loop) => await loop.stop()))).flat();
    expect(outcomes.length).toBeGreaterThan(100);
    const answeredOtherwise = outcomes.filter(({ status }) => status !== 200 && status !== 0);
    expect(answeredOtherwise).toEqual([]);
    const broken = outcomes.filter(({ status }) => status === 0);
    expect(broken.length, "one connection of each caller can have been on the dead worker").toBeLessThanOrEqual(8);
    expect(pidOf(1)).not.toBe(victim);
    expect((await node().metrics()).sum("kas_worker_restarts_total", { worker: "1" })).toBe(1);
  });

  it("drains all at one SIGTERM to the whole group: what runs ends, then everything is gone", async () => {
    const pids = childrenOf(node().child.pid).map(({ pid }) => pid);
    const slow = await request(cluster.proxyUrl(0, "services/upstream/slow?chunks=10&ms=150"), {
      headers: cluster.credential(1),
    });
    node().child.signal("SIGTERM");
    await until("it to say that it is not ready", async () => (await node().observe("/readiness")).status === 503);

    let text = "";
    for await (const chunk of slow) text += chunk;
    expect(text.split("\n").filter(Boolean)).toHaveLength(10);
    expect(await node().child.exited).toEqual({ code: 0, signal: null });
    expect(pids.filter(isAlive)).toEqual([]);
  });

  it("leaves nobody behind when the supervisor is killed with -9", async () => {
    await using second = await start();
    const { child } = second.node(0);
    const pids = childrenOf(child.pid).map(({ pid }) => pid);
    expect(pids).toHaveLength(2);
    process.kill(child.pid, "SIGKILL");

    await until("the workers to end", () => pids.every((pid) => !isAlive(pid)), { within: 10_000 });
  });

  it("ends at once at the second SIGTERM", async () => {
    await using second = await start();
    const { child } = second.node(0);
    const pids = childrenOf(child.pid).map(({ pid }) => pid);
    const held = await second.agent({ id: 1, on: [0], services: { upstream: upstream.url } });
    const stalled = await request(second.proxyUrl(0, "services/upstream/stall"), { headers: second.credential(1) });
    process.kill(child.pid, "SIGTERM");
    await sleep(300);
    process.kill(child.pid, "SIGTERM");

    expect(await child.exited).toEqual({ code: 143, signal: null });
    await until("the workers to end", () => pids.every((pid) => !isAlive(pid)), { within: 2_000 });
    stalled.destroy();
    await held[Symbol.asyncDispose]();
  });

  it("starts no worker on its own", () => {
    const { status, stderr } = spawnSync(NODE, [join(ROOT, "bin", "kas.js"), "worker", "kas-0-w0"], {
      encoding: "utf8",
    });
    expect([status, stderr]).toEqual([1, "kas: a worker is started by its supervisor: run kas serve --workers N\n"]);
  });

  it("says on stderr which name is taken, and takes nobody else down", async () => {
    const shared = { cluster: { name: "one-of-two" } };
    await using first = await start(shared);
    const listen = { authentication_secret_file: first.secrets.privateFile };
    const rival = start({ ...shared, private_api: { listen } });
    const end = await rival.then(async (up) => await up[Symbol.asyncDispose](), String);
    expect(end).toMatch(/kas: This node cannot join the cluster: the name "kas-0-w\d" is used/);
    expect(first.node(0).alive).toBe(true);
    await first.ready();
  });
});
