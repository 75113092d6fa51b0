/** HTTP/2 used against the listeners that speak it: nobody else's request fails or waits, and nothing of it stays in memory. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { rssBytes } from "../support/resident-memory.ts";
import { Cluster, printLogsOnFailure } from "./support/cluster.ts";
import { fetchText } from "./support/http.ts";
import { ATTACKS, attack } from "./support/http2-attack.ts";
import type { LeakGate } from "./support/leak-gate.ts";
import { needNats } from "./support/need.ts";
import { report } from "./support/scene.ts";
import { Upstream } from "./support/upstream.ts";

const nats = await needNats();
const PIECES = 20_000;
const WITHIN = 4_000;
const MIB = 1024 * 1024;

describe.skipIf(!nats)("HTTP/2 abuse", () => {
  let cluster: Cluster;
  let upstream: Upstream;
  let gate: LeakGate;
  printLogsOnFailure(() => cluster);

  const ca = () => cluster.certificates?.ca ?? "";
  const small = async () => {
    const begun = performance.now();
    const url = cluster.proxyUrl(0, "services/upstream/hello");
    const answer = await fetchText(url, { headers: cluster.credential(1), ca: ca() });
    expect(answer).toMatchObject({ status: 200, text: "hello" });
    return performance.now() - begun;
  };
  const rss = () => rssBytes(cluster.node(0).child.pid) / MIB;

  beforeAll(async () => {
    upstream = await Upstream.listen();
    cluster = await Cluster.start({ nodes: 2, tls: "proxy" });
    await cluster.agent({ id: 1, on: [0], services: { upstream: upstream.url } });
    for (let i = 0; i < 20; i++) await small();
    gate = await cluster.leakGate();
  }, 60_000);
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await upstream?.[Symbol.asyncDispose]();
  });

  it.each(["agent", "api", "kubernetes_api"] as const)(
    "on the listener %s: others are served meanwhile and memory stays flat",
    async (name) => {
      const address = cluster.node(0).address(name);
      const told: Record<string, string> = {};
      let first = 0;
      for (const kind of ATTACKS) {
        const before = rss();
        let over = false;
        const attacked = attack(kind, address, PIECES, WITHIN, name === "kubernetes_api" ? ca() : undefined).finally(
          () => {
            over = true;
          },
        );
        const waits: number[] = [];
        while (!over) waits.push(await small());
        const closed = await attacked;
        const slowest = Math.max(...waits);
        told[kind] =
          `${closed ? "closed" : "served"}, slowest of the others ${slowest.toFixed(0)} ms, +${(rss() - before).toFixed(0)} MiB`;
        expect(cluster.node(0).alive).toBe(true);
        expect(slowest, JSON.stringify(told)).toBeLessThan(5_000);
        if (first === 0) first = rss();
      }
      report(`HTTP/2 abuse of ${name}`, told);
      // The first flood warms the process up; the other six must not add up.
      expect(rss() - first, JSON.stringify(told)).toBeLessThan(96);
      await gate.check();
    },
    90_000,
  );
});
