/** NATS stops, for all nodes or for one: requests go on, agents that reconnect are found, and all heals when it is back. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type NatsServer, startNatsServer } from "../support/nats-server.ts";
import { Cluster, noteVersions, printLogsOnFailure } from "./support/cluster.ts";
import { FaultyProxy } from "./support/faulty-proxy.ts";
import { remoteHop } from "./support/hop.ts";
import { fetchText } from "./support/http.ts";
import { needNats } from "./support/need.ts";
import { Upstream } from "./support/upstream.ts";
import { until } from "./support/wait.ts";

const available = await needNats();
/** The design's 10 s, five times as fast. */
const SETTINGS = { timings: { nats_away_after: "2s" } };
const HEALED = 25_000;

describe.skipIf(!available)("three nodes that lose NATS", () => {
  let nats: NatsServer;
  let proxy: FaultyProxy;
  let cluster: Cluster;
  let upstream: Upstream;
  printLogsOnFailure(() => cluster);

  const get = async (node: number, agent: number, within = 15_000) =>
    await fetchText(cluster.proxyUrl(node, "services/upstream/count?id=get"), {
      within,
      headers: cluster.credential(agent),
    });
  const connected = async (node: number) => (await cluster.node(node).metrics()).sum("kas_nats_connected");
  const status = async (node: number) => (await cluster.node(node).observe("/readiness")).status;
  const seen = async (what: string, wanted: number, nodes: readonly number[]) =>
    await until(what, async () => (await Promise.all(nodes.map(connected))).every((value) => value === wanted));

  beforeAll(async () => {
    nats = await startNatsServer();
    proxy = await FaultyProxy.listen(() => [nats.url.replace("nats://", "")]);
    upstream = await Upstream.listen();
    cluster = await Cluster.start({
      nodes: 3,
      natsUrl: nats.url,
      settings: SETTINGS,
      settingsOf: (index) => (index === 0 ? { nats: { servers: [`nats://${proxy.address}`] } } : {}),
    });
    const services = { upstream: upstream.url };
    await cluster.agent({ id: 1, on: [2, 1], services });
    await cluster.agent({ id: 2, on: [1, 2], services });
    await noteVersions(cluster);
  });
  afterAll(async () => {
    for (const part of [cluster, upstream, proxy, nats]) await part?.[Symbol.asyncDispose]();
  });

  it("the one that alone has lost it is not ready, yet serves; with NATS it is ready again", async () => {
    expect((await get(0, 1)).status).toBe(200);
    proxy.fail({ refuse: true });
    proxy.reset();
    await seen("kas-0 without NATS", 0, [0]);
    await until("kas-0 to say that it is not ready", async () => (await status(0)) === 503);
    expect(await status(1)).toBe(200);
    const found = await remoteHop(cluster.node(0), async () => await get(0, 2));
    expect(found.status).toBe(200);
    proxy.heal();
    await until("kas-0 to be ready again", async () => (await status(0)) === 200, { within: HEALED });
  });

  it("all that have lost it stay ready, and an agent that connects or reconnects elsewhere is found", async () => {
    await nats.stop();
    await seen("nobody with NATS", 0, [0, 1, 2]);
    await cluster.agent({ id: 3, on: [1], services: { upstream: upstream.url } });
    expect((await remoteHop(cluster.node(0), async () => await get(0, 3))).status).toBe(200);
    await cluster.node(2).child.kill();
    const moved = await until("agent 1 on another node", async () => {
      const answer = await get(0, 1);
      return answer.status === 200 && answer;
    });
    expect(moved.status).toBe(200);
    for (const node of [0, 1]) expect(await status(node)).toBe(200);
  });

  it("heals when it is back: a node joins, and its agents are found", async () => {
    await nats.start();
    await seen("both with NATS", 1, [0, 1]);
    await cluster.heal();
    expect((await remoteHop(cluster.node(0), async () => await get(0, 1))).status).toBe(200);
    for (const node of [0, 1, 2]) expect(await status(node)).toBe(200);
  });
});
