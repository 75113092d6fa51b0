/** What a passing test could owe to luck: that the leak gate sees leaks, that nobody buffers, that replays are whole. */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { rssBytes } from "../support/resident-memory.ts";
import type { Agentk } from "./support/agentk.ts";
import { Cluster, noteVersions, printLogsOnFailure } from "./support/cluster.ts";
import { remoteHop } from "./support/hop.ts";
import { fetchText, request } from "./support/http.ts";
import type { KasNode } from "./support/kas-node.ts";
import type { LeakGate } from "./support/leak-gate.ts";
import { needNats } from "./support/need.ts";
import { Upstream } from "./support/upstream.ts";
import { until } from "./support/wait.ts";

const nats = await needNats();
const MIB = 1024 * 1024;
const rss = ({ child: { pid } }: KasNode | Agentk) => rssBytes(pid);

describe.skipIf(!nats)("not by luck", () => {
  let cluster: Cluster;
  let upstream: Upstream;
  let gate: LeakGate;
  printLogsOnFailure(() => cluster);

  /** Through node 0 to the agent on node 1. */
  const url = (path: string) => cluster.proxyUrl(0, `services/upstream${path}`);
  const headers = () => cluster.credential(1);
  const get = async (path: string) => await fetchText(url(path), { headers: headers() });

  beforeAll(async () => {
    upstream = await Upstream.listen();
    cluster = await Cluster.start({ nodes: 2 });
    await cluster.agent({ id: 1, on: [1], services: { upstream: upstream.url } });
    await Promise.all(Array.from({ length: 20 }, async () => await get("/bytes?n=1000000")));
    await noteVersions(cluster);
    gate = await cluster.leakGate();
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await upstream?.[Symbol.asyncDispose]();
  });

  it("fails the leak gate on a stream left open, and only then", async () => {
    await gate.check();

    const open = await remoteHop(cluster.node(0), async () => await request(url("/stall"), { headers: headers() }));
    const leak = await gate.check({ within: 1_500 }).catch((error: Error) => error.message);
    open.destroy();

    expect(leak).toMatch(/kas-0 +kas_streams_active +expected 0, found 1/);
    expect(leak).toMatch(/kas-1 +kas_streams_active/);
    expect(leak).toMatch(/agentk-1-\d+ +agentk_streams_active +expected 0, found 1/);
    await gate.check();
  });

  it("serves 100 requests beside 20 readers that stopped after the first byte of 300 MB, in 40 MiB", async () => {
    // A warm base: compiled code and pooled buffers of the same traffic, read to its end, are no cost of stalled readers.
    await Promise.all(Array.from({ length: 20 }, async () => await get(`/bytes?n=${5 * MIB}`)));
    for (let n = 0; n < 100; n++) await get(`/hello?id=warm-${n}`);
    const processes = [...cluster.nodes, ...cluster.agents];
    const before = processes.map(rss);
    const readers = await Promise.all(
      Array.from({ length: 20 }, async () => await stalledReader(url(`/bytes?n=${300 * MIB}`), headers())),
    );

    const answers = await remoteHop(cluster.node(0), async () => {
      const batches = await Promise.all(
        Array.from({ length: 10 }, async (_, batch) => {
          const texts: string[] = [];
          for (let n = 0; n < 10; n++) texts.push((await get(`/hello?id=beside-${batch}-${n}`)).text);
          return texts;
        }),
      );
      return batches.flat();
    });
    const grown = processes.map((one, index) => Math.round((rss(one) - (before[index] ?? 0)) / MIB));
    for (const reader of readers) reader.destroy();

    expect(answers).toEqual(Array(100).fill("hello"));
    expect(Math.max(...grown), `MiB more of ${processes.map(({ name }) => name)}: ${grown}`).toBeLessThanOrEqual(40);
    await gate.check();
    await until("the upstream to be left alone", () => upstream.active === 0);
  });

  it("delivers the first bytes of a slow answer before its last are written", async () => {
    const first = await remoteHop(cluster.node(0), async () => {
      const answer = await request(url("/slow?id=slow&chunks=5&ms=200"), { headers: headers() });
      await once(answer, "data");
      const arrived = performance.now();
      for await (const _ of answer);
      return arrived;
    });

    const written = upstream.written.get("slow") ?? [];
    expect(written).toHaveLength(5);
    expect(first).toBeLessThan(written[1] ?? 0);
    await gate.check();
  });
});

/** Reads one chunk of the answer and then nothing more. */
async function stalledReader(url: string, headers: Readonly<Record<string, string>>): Promise<IncomingMessage> {
  const answer = await request(url, { headers, within: 60_000 });
  expect(answer.statusCode).toBe(200);
  const first = once(answer, "readable");
  await first;
  expect(answer.read(1)).not.toBeNull();
  return answer;
}

describe.skipIf(!nats)("an upload whose first holder refuses it", () => {
  let cluster: Cluster;
  let upstream: Upstream;
  printLogsOnFailure(() => cluster);

  beforeAll(async () => {
    upstream = await Upstream.listen();
    cluster = await Cluster.start({
      nodes: 3,
      settingsOf: (index) => (index === 1 ? { limits: { streams_per_agent: 1 } } : {}),
    });
    const services = { upstream: upstream.url };
    await cluster.agent({ id: 1, on: [1], services });
    await cluster.agent({ id: 1, on: [2], services });
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await upstream?.[Symbol.asyncDispose]();
  });

  it("arrives whole at the second, once", async () => {
    const headers = cluster.credential(1);
    const upload = async (id: string, body: Buffer) =>
      await fetchText(cluster.proxyUrl(0, `services/upstream/upload?id=${id}`), { method: "POST", headers, body });
    await upload("warm-up", randomBytes(1024));
    const gate = await cluster.leakGate();
    // Node 1 prefers its own connection, so this fills the one stream that it allows.
    const filler = await request(cluster.proxyUrl(1, "services/upstream/stall"), { headers });
    const attempts = async () => {
      const metrics = await cluster.node(0).metrics();
      return metrics.sum("kas_route_attempts_sum") - metrics.sum("kas_route_attempts_count");
    };
    const [retried, body] = [await attempts(), randomBytes(5 * MIB)];

    const answers = await remoteHop(cluster.node(0), async () => {
      const all: string[] = [];
      for (let n = 0; n < 12; n++) all.push((await upload(`upload-${n}`, body)).text);
      return all;
    });
    const refused = (await attempts()) - retried;
    filler.destroy();

    const sha256 = createHash("sha256").update(body).digest("hex");
    expect(answers).toEqual(Array(12).fill(JSON.stringify({ sha256, bytes: body.length })));
    expect(upstream.twice()).toEqual([]);
    expect(refused, "attempts beyond the first").toBeGreaterThan(0);
    await gate.check();
  });
});
