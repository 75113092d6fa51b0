/**
 * Callers and upstreams that do not behave: readers and writers that stall, callers that leave, upgrades that fail half-way,
 * an agent whose upstream never answers. Through node 0 to agents on node 1; each scenario ends with the leak gate.
 */
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import { text as readText } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { codeOf, type Entry, type Summary, summary, took, wasAnswered } from "./support/history.ts";
import { request, upgrade } from "./support/http.ts";
import type { LeakGate } from "./support/leak-gate.ts";
import { needNats } from "./support/need.ts";
import { printOnFailure, report, Scene } from "./support/scene.ts";
import { staticFile } from "./support/settings.ts";
import { until } from "./support/wait.ts";

const nats = await needNats();
const MIB = 1024 * 1024;
const PER_AGENT = 100;
const told = ({ outcome: o }: Entry) => (o.type === "answered" ? `${o.failureCode} ${o.retryAfter}` : o.type);
/** Target 1 s. */
const CLOSED_WITHIN = 5_000;

describe.skipIf(!nats)("callers and upstreams that misbehave", () => {
  let scene: Scene;
  let gate: LeakGate;
  printOnFailure(() => scene);
  const headers = () => scene.cluster.credential(1);
  const url = (path: string) => scene.cluster.proxyUrl(0, `services/upstream${path}`);
  const small = async (name: string): Promise<Summary> => {
    const load = scene.history.load({ name, agents: [1], nodes: [0], perSecond: 50 });
    await sleep(4_000);
    return summary(await load.stop());
  };

  beforeAll(async () => {
    scene = await Scene.start({
      nodes: 2,
      settings: { limits: { streams_per_agent: PER_AGENT } },
      agents: [
        { id: 1, on: [1] },
        { id: 2, on: [1] },
      ],
    });
    await Promise.all(
      Array.from(
        { length: 20 },
        async () => await readText(await request(url("/bytes?n=1000000"), { headers: headers() })),
      ),
    );
  }, 120_000);
  afterAll(async () => await scene?.[Symbol.asyncDispose]());
  beforeEach(async () => {
    gate = await scene.restore();
  }, 120_000);

  it("F1: serves small requests beside 20 callers that read nothing of 300 MB each, in 1 MiB each and node", async () => {
    const stalled = async () =>
      await Promise.all(
        Array.from({ length: 20 }, async () => {
          return await request(url(`/bytes?n=${300 * MIB}`), { headers: headers(), within: 60_000 });
        }),
      );
    const warmUp = await stalled();
    const alone = await small("warm-up");
    for (const reader of warmUp) reader.destroy();
    await until("the upstream to be left alone", () => scene.active === 0);
    const before = scene.rss();
    const readers = await stalled();
    const beside = await small("beside");
    const more = scene.grown(before);
    const buffered = await Promise.all(
      scene.cluster.nodes.map(async (node) => (await node.metrics()).sum("kas_stream_buffered_bytes") / MIB),
    );
    for (const reader of readers) reader.destroy();

    expect(Math.max(...buffered), `MiB held by the nodes: ${buffered}`).toBeLessThanOrEqual(20);
    expect(beside.failed).toEqual({});
    expect(beside.max, "five times 1 s").toBeLessThan(5_000);
    // What is held is bounded above, byte by byte; how much the collector has not yet given back gets five times 20 MiB.
    expect(Math.max(...more), `MiB more: ${more}`).toBeLessThanOrEqual(100);
    report("F1", {
      warmUp: alone.p99,
      buffered,
      beside: beside.p99,
      slowest: beside.max,
      more,
      ...(await scene.end(gate)),
    });
  });

  it("F2: makes an uploader wait whose upstream takes nothing of 100 MB, and serves others meanwhile", async () => {
    const before = scene.rss();
    let pulled = 0;
    const block = Buffer.alloc(64 * 1024);
    const body = new Readable({
      read() {
        pulled += block.length;
        this.push(pulled > 100 * MIB ? null : block);
      },
    });
    const upload = request(url("/hold?id=deaf"), { method: "POST", headers: headers(), body, within: 60_000 });
    await until("the upload at the upstream", () => scene.upstream(1).holds("deaf"));
    const beside = await small("beside");
    const [more, taken] = [scene.grown(before), pulled / MIB];
    scene.upstream(1).release("deaf");
    const answer = await upload;
    const text = await readText(answer);
    body.destroy();
    answer.destroy();

    expect({ status: answer.statusCode, text }).toEqual({ status: 200, text: "released" });
    expect(beside.failed).toEqual({});
    expect(taken, "MiB taken from the caller").toBeLessThan(20);
    report("F2", { taken, beside: beside.p99, more, ...(await scene.end(gate)) });
  });

  it("F3: passes 256 MiB to a reader of 1 MB/s for 10 s (a sixth), then at full speed, in 32 MiB more of any process", async () => {
    const before = scene.rss();
    const answer = await request(url(`/bytes?n=${256 * MIB}`), { headers: headers(), within: 60_000 });
    const until10s = performance.now() + 10_000;
    let read = 0;
    let most = 0;
    while (performance.now() < until10s) {
      read += (await chunk(answer)).length;
      most = Math.max(most, ...scene.grown(before));
      await sleep(60);
    }
    for await (const bytes of answer as AsyncIterable<Buffer>) read += bytes.length;
    const after = Math.max(...scene.grown(before));

    expect(read).toBe(256 * MIB);
    expect(most, "MiB more while the reader was slow").toBeLessThanOrEqual(32);
    report("F3", { most, after, ...(await scene.end(gate)) });
  });

  it("F4: keeps nothing of 50 lists of 5 MB (a tenth) once they were read and only their watches go on", async () => {
    const before = scene.rss();
    const watches = await Promise.all(
      Array.from({ length: 50 }, async () => {
        const answer = await request(url(`/watch?n=${5 * MIB}`), { headers: headers(), within: 60_000 });
        let bytes = 0;
        answer.on("data", (part: Buffer) => {
          bytes += part.length;
        });
        return { answer, bytes: () => bytes };
      }),
    );
    await until("all lists and an event of each watch", () => watches.every(({ bytes }) => bytes() > 5 * MIB + 6), {
      within: 60_000,
    });
    const buffered = async () =>
      (
        await Promise.all(
          scene.cluster.nodes.map(async (node) => (await node.metrics()).sum("kas_stream_buffered_bytes")),
        )
      ).reduce((a, b) => a + b, 0);
    await until("no byte to be held", async () => (await buffered()) < 64 * 1024);
    const more = scene.grown(before);
    for (const { answer } of watches) answer.destroy();

    report("F4", { more, ...(await scene.end(gate)) });
  });

  it("F16: leaves nothing of 1 000 concurrent requests whose callers left after 0 to 50 ms", async () => {
    for (let batch = 0; batch < 10; batch++) {
      await Promise.all(
        Array.from({ length: 100 }, async (_, n) => {
          const signal = AbortSignal.timeout(Math.floor(Math.random() * 50));
          const path = n % 3 === 0 ? "/hold" : "/answer?pieces=20&ms=5";
          return await scene.history.send({
            agent: 1 + (n % 2),
            node: n % 2,
            method: n % 4 === 0 ? "POST" : "GET",
            path,
            signal,
          });
        }),
      );
    }
    report("F16", await scene.end(gate));
  });

  it(`F17: holds ${PER_AGENT} requests for an upstream that never answers, runs none of the others, and frees all when the agent goes`, async () => {
    const held = Array.from({ length: PER_AGENT }, (_, n) =>
      scene.history.begin({ agent: 2, node: n % 2, method: "POST", path: "/hold" }, "held"),
    );
    await until("all to be held", () => scene.upstream(2).active === PER_AGENT);
    const active = (await scene.cluster.node(1).metrics()).sum("kas_streams_active");
    const refused = await Promise.all(
      Array.from(
        { length: 20 },
        async (_, n) => await scene.history.send({ agent: 2, node: n % 2, method: "POST", path: "/hold" }, "more"),
      ),
    );
    const others = await small("others");
    const left = performance.now();
    await scene.of(2).agent.child.kill();
    const ended = await Promise.all(held.map(async ({ ended: one }) => await one));
    const freed = performance.now() - left;
    await scene.place({ id: 2, on: [1] });

    expect(active).toBeGreaterThanOrEqual(PER_AGENT);
    for (const entry of refused) {
      expect(["busy 1", "deadline "], "deadline only where an attempt was under way").toContain(told(entry));
      expect(took(entry)).toBeLessThan(10_000);
      expect(scene.history.executions(entry.id).size, "what found no room never ran").toBe(0);
    }
    expect(refused.filter((entry) => told(entry) === "busy 1").length).toBeGreaterThanOrEqual(10);
    expect(others.failed).toEqual({});
    expect(new Set(ended.map(codeOf))).toEqual(new Set(["outcome-unknown"]));
    expect(freed).toBeLessThan(10_000);
    report("F17", {
      refusedAfter: Math.max(...refused.map(took)),
      freed,
      ...(await scene.end(gate, { moreHandles: 2 })),
    });
  });

  it("F19: tells an upgraded caller at once that its upstream ended or was reset, and which of both", async () => {
    for (const end of ["fin", "reset"] as const) {
      const opened = await upgrade(url(`/echo?end=${end}`), { headers: headers() });
      if (!("socket" in opened)) throw new Error(`no upgrade: ${opened.answer.statusCode}`);
      const { socket } = opened;
      let heard = "";
      let ended = false;
      socket.on("data", (bytes: Buffer) => {
        heard += bytes.toString();
      });
      socket.once("end", () => {
        ended = true;
      });
      socket.on("error", () => {});
      const closed = new Promise((resolve) => socket.once("close", resolve));
      const asked = performance.now();
      socket.write("now");
      await closed;
      const after = performance.now() - asked;

      expect(after).toBeLessThan(CLOSED_WITHIN);
      expect({ end, ended, heard }).toEqual(
        end === "fin" ? { end, ended: true, heard: "last words" } : { end, ended: false, heard: "" },
      );
      report(`F19 ${end}`, { after });
    }
    await scene.end(gate);
  });

  it("F20: passes a refused upgrade on word for word, and closes on one that breaks in its 101", async () => {
    for (const status of [403, 500, 200]) {
      const opened = await upgrade(url(`/echo?id=refused-${status}&refuse=${status}`), { headers: headers() });
      if (!("answer" in opened)) throw new Error("it was upgraded");
      const { answer } = opened;
      expect({ status: answer.statusCode, why: answer.headers["x-why"], text: await readText(answer) }).toEqual({
        status,
        why: "upstream",
        text: `no upgrade: ${status}`,
      });
    }
    await expect(upgrade(url("/echo?id=half&half=1"), { headers: headers() })).rejects.toThrow();
    expect([...scene.upstream(1).executions.values()]).toEqual([1, 1, 1, 1]);
    report("F20", await scene.end(gate));
  });

  it("F23: disconnects nobody and serves on while the authentication file is faulty (10 s of 30)", async () => {
    const links = scene.cluster.agents.map(({ connections }) => connections.length);
    const load = scene.history.load({ name: "faulty", agents: [1, 2], nodes: [0, 1], perSecond: 40 });
    for (let n = 0; n < 5; n++) {
      scene.cluster.writeStaticFile(n % 2 === 0 ? { agents: "nobody" } : { ...staticFile(), users: 5 });
      await sleep(2_000);
    }
    await scene.place({ id: 3, on: [0] });
    await scene.reaches({ agent: 3, node: 1 });
    scene.cluster.writeStaticFile(staticFile());
    const entries = await load.stop();

    expect(entries.filter((entry) => !wasAnswered(entry))).toEqual([]);
    expect(scene.cluster.agents.slice(0, links.length).map(({ connections }) => connections.length)).toEqual(links);
    report("F23", await scene.end(gate, { moreHandles: 2 }));
  });
});

/** The next 64 KiB or less. */
async function chunk(answer: IncomingMessage): Promise<Buffer> {
  for (;;) {
    const bytes: Buffer | null = answer.read(64 * 1024) ?? answer.read();
    if (bytes) return bytes;
    await once(answer, "readable");
  }
}
