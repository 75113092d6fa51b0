/**
 * kill -9 of each role while requests run: three nodes, four agents with two connections each, each agentk behind a balancer
 * that lets it land elsewhere. Times are five times the design's targets.
 */

import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Agentk } from "./support/agentk.ts";
import { Cluster, noteVersions, printLogsOnFailure } from "./support/cluster.ts";
import { FakeApi } from "./support/fake-api.ts";
import { localHop, remoteHop } from "./support/hop.ts";
import { fetchText } from "./support/http.ts";
import type { KasNode } from "./support/kas-node.ts";
import { kubeconfigYaml, startKubectl } from "./support/kubectl.ts";
import { LeakGate } from "./support/leak-gate.ts";
import { needNats } from "./support/need.ts";
import { TOKENS } from "./support/settings.ts";
import { expectAtMostOnce, Traffic } from "./support/traffic.ts";
import { Upstream } from "./support/upstream.ts";
import { until } from "./support/wait.ts";

const nats = await needNats();
const NODES = [0, 1, 2] as const;
const FLEET = [1, 2, 3, 4] as const;
/** Targets of the design times five. */
const AFTER_REDIAL = 7_500;
const HOME_WAIT = 5_000;
const CUT_WITHIN = 5_000;
const AT_ONCE = 5_000;

describe.skipIf(!nats)("three nodes, four agents with two connections each", () => {
  let cluster: Cluster;
  let upstream: Upstream;
  let fake: FakeApi;
  let gate: LeakGate;
  const fleet = new Map<number, readonly Agentk[]>();
  printLogsOnFailure(() => cluster);

  const path = (id: string, what = "count") => `services/upstream/${what}?id=${id}`;
  const call = async (node: number, agent: number, to: string, method = "GET", within = 20_000) =>
    await fetchText(cluster.proxyUrl(node, to), {
      method,
      within,
      headers: cluster.credential(agent),
      ca: cluster.certificates?.ca ?? "",
      ...(method === "POST" && { body: to }),
    });
  const traffic = (name: string, agent: number, nodes: readonly number[], method: "GET" | "POST" = "POST") =>
    new Traffic({
      name,
      method,
      urls: nodes.map((node) => {
        const base = cluster.proxyUrl(node, "");
        return (id: string) => `${base}${path(id)}`;
      }),
      headers: cluster.credential(agent),
      ca: cluster.certificates?.ca,
    });

  /** The node other than the ingress that carries a stream right now. */
  const holder = async (ingress: number): Promise<KasNode> =>
    await until("a holder with a stream", async () => {
      for (const node of cluster.nodes) {
        if (node === cluster.node(ingress) || !node.alive) continue;
        if ((await node.metrics()).sum("kas_streams_active") > 0) return node;
      }
      return undefined;
    });

  beforeAll(async () => {
    upstream = await Upstream.listen();
    fake = await FakeApi.listen();
    cluster = await Cluster.start({ nodes: 3, tls: "proxy" });
    const kubeconfig = cluster.dir.file("fake-api.kubeconfig");
    writeFileSync(kubeconfig, kubeconfigYaml(fake.url, "token"));
    const services = { upstream: upstream.url };
    for (const id of FLEET) {
      const landings = [0, 1].map((connection) => NODES.map((_, step) => (id + connection + step) % 3));
      fleet.set(
        id,
        await Promise.all(landings.map(async (on) => await cluster.agent({ id, on, services, kubeconfig }))),
      );
    }
    await noteVersions(cluster);
  }, 180_000);
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await upstream?.[Symbol.asyncDispose]();
    await fake?.[Symbol.asyncDispose]();
  });

  beforeEach(async () => {
    await cluster.heal();
    upstream.executions.clear();
    for (const node of NODES) {
      for (const agent of FLEET)
        await until("a warm route", async () => (await call(node, agent, path("warm", "hello"))).status === 200);
    }
    gate = await LeakGate.baseline(() => cluster.watched());
    upstream.executions.clear();
  }, 120_000);

  it("reaches every agent through every node", async () => {
    for (const agent of FLEET) {
      for (const node of NODES) {
        const isHolder = fleet.get(agent)?.some((one) => one.node === `kas-${node}`);
        const hop = isHolder ? localHop : remoteHop;
        const { status, text } = await hop(
          cluster.node(node),
          async () => await call(node, agent, path("reach", "hello")),
        );
        expect({ node, agent, status, text }).toEqual({ node, agent, status: 200, text: "hello" });
      }
    }
    await gate.check();
  });

  // Agent 1 lives on nodes 1 and 2, so node 0 is a pure ingress for it.
  it("loses only the callers of an ingress killed with -9 and runs nothing twice", async () => {
    const posts = traffic("ingress", 1, [0, 1, 2]);
    const held = call(0, 1, path("held-by-ingress", "hold"), "POST").then(
      () => "answered",
      () => "cut",
    );
    await until("the held request to run", () => upstream.holds("held-by-ingress"));
    await remoteHop(cluster.node(0), async () => await sleep(500));
    await cluster.node(0).child.kill();
    const killed = performance.now();

    expect(await held).toBe("cut");
    await sleep(1_000);
    const outcomes = await posts.stop();
    await until("the agent to drop what the dead ingress asked", () => upstream.active === 0, { within: CUT_WITHIN });

    expect(performance.now() - killed).toBeLessThan(CUT_WITHIN + 5_000);
    expectAtMostOnce(outcomes, upstream);
    const others = outcomes.filter(({ id }) => !id.startsWith("ingress-0-"));
    expect(others.filter(({ status }) => status !== 200)).toEqual([]);
    expect(others.length).toBeGreaterThan(20);
    await gate.check();
  });

  it("answers `outcome-unknown` for a POST whose holder is killed with -9, and serves the next request at once", async () => {
    const posts = traffic("holder", 1, [0]);
    const post = remoteHop(cluster.node(0), async () => await call(0, 1, path("held-post", "hold"), "POST"));
    await until("the held POST to run", () => upstream.holds("held-post"));
    await sleep(300);
    await posts.stop();
    const victim = await holder(0);
    const again = traffic("after", 1, [0]);
    await victim.child.kill();
    const killed = performance.now();

    const answer = await post;
    expect(performance.now() - killed).toBeLessThan(CUT_WITHIN);
    expect(answer).toMatchObject({ status: 502, headers: { "failure-code": "outcome-unknown" } });
    expect(answer.headers["retry-after"]).toBeUndefined();
    expect(answer.text).toContain("may have");
    const next = await call(0, 1, path("next"), "POST");
    expect(next).toMatchObject({ status: 200 });
    expect(performance.now() - killed).toBeLessThan(AFTER_REDIAL);
    await sleep(1_000);
    expectAtMostOnce([...posts.outcomes, ...(await again.stop())], upstream);
    expect(upstream.executions.get("held-post")).toBe(1);
    await gate.check({ moreHandles: 4 });
  });

  it("repeats a GET whose holder is killed with -9", async () => {
    const get = remoteHop(cluster.node(0), async () => await call(0, 1, path("held-get", "hold")));
    await until("the held GET to run", () => upstream.holds("held-get"));
    await (await holder(0)).child.kill();
    await until("the GET to run again", () => (upstream.executions.get("held-get") ?? 0) > 1, { within: CUT_WITHIN });
    await sleep(100);
    upstream.release("held-get");

    expect(await get).toMatchObject({ status: 200, text: "released" });
    await gate.check({ moreHandles: 4 });
  });

  it("reaches an agent with one connection as soon as it has landed on another node", async () => {
    const solo = await cluster.agent({ id: 5, on: [1, 2], services: { upstream: upstream.url } });
    await remoteHop(cluster.node(0), async () => await call(0, 5, path("solo", "hello")));
    const posts = traffic("solo", 5, [0]);
    await cluster.node(1).child.kill();
    await solo.connected(2);
    const landed = performance.now();

    expect(await call(0, 5, path("landed"), "POST")).toMatchObject({ status: 200 });
    expect(performance.now() - landed).toBeLessThan(AFTER_REDIAL);
    expectAtMostOnce(await posts.stop(), upstream);
    await solo[Symbol.asyncDispose]();
    await gate.check({ moreHandles: 4 });
  });

  it("fails no request and keeps none waiting when a home is killed with -9", async () => {
    const { text } = await cluster.node(0).observe("/api/v1/route/1", TOKENS.operator);
    const homes: readonly string[] = JSON.parse(text).homes;
    const victim = homes.map((home) => cluster.named(home)).find((node) => node !== cluster.node(0)) ?? cluster.node(1);
    const ingress = NODES.filter((node) => cluster.node(node) !== victim);
    const gets = traffic("home-get", 1, ingress, "GET");
    const posts = traffic("home-post", 1, ingress);
    await sleep(500);
    await victim.child.kill();
    await sleep(3_000);

    const read = await gets.stop();
    expect(read.filter(({ status }) => status !== 200)).toEqual([]);
    expect(Math.max(...read.map(({ took }) => took))).toBeLessThan(HOME_WAIT);
    upstream.executions.forEach((_, id) => void (id.startsWith("home-get") && upstream.executions.delete(id)));
    expectAtMostOnce(await posts.stop(), upstream);
    await gate.check({ moreHandles: 4 });
  });

  it("hands a waiting request to its agent the moment it connects", async () => {
    const early = await cluster.agent({ id: 6, on: [1], services: { upstream: upstream.url } });
    await remoteHop(cluster.node(0), async () => await call(0, 6, path("early", "hello")));
    await early.child.stop();
    const waiting = call(0, 6, path("waiting"), "POST");
    await until("a parked request", async () => (await cluster.node(0).metrics()).sum("kas_requests_parked") === 1);

    await cluster.agent({ id: 6, on: [2], services: { upstream: upstream.url } });
    const connected = performance.now();
    expect(await waiting).toMatchObject({ status: 200 });
    expect(performance.now() - connected).toBeLessThan(AT_ONCE);
    expect(upstream.executions.get("waiting")).toBe(1);
    await cluster.agents.at(-1)?.child.stop();
    await gate.check({ moreHandles: 4 });
  });

  it("runs the command of `kubectl exec` once when the holder is killed with -9 after its OPEN", async () => {
    const before = fake.upgrades;
    await using exec = startKubectl(cluster.dir, cluster.kubeconfig(0, 1), ["exec", "web", "--", "true"]);
    await exec.whileAlive("the upgrade at the API server", () => fake.upgrades > before || undefined);
    await (await holder(0)).child.kill();

    expect((await exec.exited).code).not.toBe(0);
    expect(fake.upgrades - before).toBe(1);
    await gate.check({ moreHandles: 4 });
  });
});
