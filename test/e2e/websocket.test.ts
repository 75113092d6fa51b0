/** An agent that dials ws://, through the node that does not hold it, and what the port says to others. */
import { createHash, randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Agentk } from "./support/agentk.ts";
import { Cluster, noteVersions, printLogsOnFailure } from "./support/cluster.ts";
import { remoteHop } from "./support/hop.ts";
import { fetchText } from "./support/http.ts";
import type { LeakGate } from "./support/leak-gate.ts";
import { needNats } from "./support/need.ts";
import { Upstream } from "./support/upstream.ts";
import { until } from "./support/wait.ts";

const nats = await needNats();

describe.skipIf(!nats)("an agent over WebSocket", () => {
  let cluster: Cluster;
  let upstream: Upstream;
  let agent: Agentk;
  let gate: LeakGate;
  printLogsOnFailure(() => cluster);

  beforeAll(async () => {
    upstream = await Upstream.listen();
    cluster = await Cluster.start({ nodes: 2 });
    agent = await start(1);
    await get("hello");
    await noteVersions(cluster);
    gate = await cluster.leakGate();
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await upstream?.[Symbol.asyncDispose]();
  });

  const start = async (id: number): Promise<Agentk> => {
    const kas = `ws://${cluster.node(1).address("agent")}/-/kubernetes-agent/`;
    const started = await Agentk.start(cluster.dir, { id, kas, services: { upstream: upstream.url } });
    cluster.agents.push(started);
    return started;
  };
  const transports = async (): Promise<readonly (readonly [string, number])[]> =>
    [...(await cluster.node(1).metrics()).by("kas_agent_connections", "transport")].filter(([, count]) => count > 0);
  const get = async (path: string) =>
    await fetchText(cluster.proxyUrl(0, `services/upstream/${path}`), { headers: cluster.credential(1) });

  it("answers through the other node, and is counted as a WebSocket", async () => {
    const answer = await remoteHop(cluster.node(0), async () => await get("hello"));

    expect(answer).toMatchObject({ status: 200, text: "hello" });
    expect(await transports()).toEqual([["websocket", 1]]);
    await gate.check();
  });

  it("carries large bodies both ways", async () => {
    const body = randomBytes(8 * 1024 * 1024);
    const url = cluster.proxyUrl(0, "services/upstream/upload");
    const upload = await fetchText(url, { method: "POST", headers: cluster.credential(1), body });
    expect(JSON.parse(upload.text)).toEqual({
      sha256: createHash("sha256").update(body).digest("hex"),
      bytes: body.length,
    });

    const download = await get(`bytes?n=${body.length}`);
    expect([download.status, download.text.length]).toEqual([200, body.length]);
    await gate.check();
  });

  it("answers other requests on that port with what it takes", async () => {
    const answer = await fetchText(`http://${cluster.node(1).address("agent")}/`, {});

    expect(answer.status).toBe(426);
    expect(answer.text).toContain("ws-tunnel");
    await gate.check();
  });

  it("is gone from its node as soon as it ends", async () => {
    await agent.child.stop();
    await until("no connection", async () => (await transports()).length === 0);
    await gate.check();
  });

  it("hears of a node that goes away", async () => {
    const again = await start(2);
    await cluster.node(1).child.stop();
    await again.child.whileAlive(
      "a word about it",
      () => /not connected to kas/.test(again.child.stderr()) || undefined,
    );
    await again.child.stop();
    await gate.check();
  });
});
