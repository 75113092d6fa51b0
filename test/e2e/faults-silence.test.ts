/**
 * Callers that stall, leave or fall silent where a socket alone does not say so: on upgraded streams, in the middle of an
 * upload that waits, behind a network that loses everything. Through node 0 to an agent on node 1, each with the leak gate.
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { BlackHole, FAR } from "./support/black-hole.ts";
import { upgrade } from "./support/http.ts";
import type { LeakGate } from "./support/leak-gate.ts";
import { needNats } from "./support/need.ts";
import { printOnFailure, report, Scene } from "./support/scene.ts";
import { PREFIX } from "./support/settings.ts";
import { hashOf } from "./support/upstream.ts";
import { until } from "./support/wait.ts";

const nats = await needNats();
const MIB = 1024 * 1024;
/** Of 25 s; the ten probes of a second each after it are the kernel's. */
const KEEPALIVE_AFTER = 2_000;
const SILENT_WITHIN = 45_000;
/** Of 5 s and 5 min. */
const CHECK_EVERY = 500;
const STALLED_AFTER = 4_000;
const NOTICED_WITHIN = 5_000;

describe.skipIf(!nats)("callers that stall, leave or fall silent", () => {
  let scene: Scene;
  let gate: LeakGate;
  printOnFailure(() => scene);
  const headers = () => scene.cluster.credential(1);
  const path = (rest: string) => `${PREFIX}services/upstream${rest}`;
  const streams = async () => (await scene.cluster.node(0).metrics()).sum("kas_streams_active");

  /** A caller by hand, so that it can leave in any way. */
  async function raw(head: string, from?: string): Promise<Socket> {
    const [host = "", port = ""] = scene.cluster.node(0).address("kubernetes_api").split(":");
    const socket = connect({ host, port: Number(port), ...(from && { localAddress: from }) });
    socket.on("error", () => {});
    await once(socket, "connect");
    socket.write(`${head} HTTP/1.1\r\nHost: kas\r\nAuthorization: ${headers().authorization}\r\n`);
    return socket;
  }

  async function flood(bytes: number): Promise<Duplex> {
    const opened = await upgrade(scene.cluster.proxyUrl(0, `services/upstream/flood?n=${bytes}`), {
      headers: headers(),
      within: 120_000,
    });
    if (!("socket" in opened)) throw new Error(`no upgrade: ${opened.answer.statusCode}`);
    return opened.socket;
  }

  beforeAll(async () => {
    scene = await Scene.start({
      nodes: 2,
      settings: {
        timings: {
          keepalive_after: `${KEEPALIVE_AFTER}ms`,
          caller_check_interval: `${CHECK_EVERY}ms`,
          stalled_upload_after: `${STALLED_AFTER}ms`,
        },
      },
      agents: [{ id: 1, on: [1] }],
    });
    const warm = await flood(64 * MIB);
    warm.resume();
    await once(warm, "end");
    warm.destroy();
  }, 120_000);
  afterAll(async () => await scene?.[Symbol.asyncDispose]());
  beforeEach(async () => {
    gate = await scene.restore();
  }, 120_000);

  it("F3: holds little of 256 MiB on an upgraded stream whose reader stalls for 5 s and reads 1 MB/s for 5 s, and then passes it whole", async () => {
    const before = scene.rss();
    const socket = await flood(256 * MIB);
    const hash = createHash("sha256");
    let read = 0;
    let most = 0;
    const note = () => {
      most = Math.max(most, ...scene.grown(before));
    };
    socket.pause();
    for (let second = 0; second < 10; second++) {
      const until = performance.now() + 1_000;
      if (second >= 5) {
        const piece: Buffer = (socket.read(MIB) ?? socket.read()) || Buffer.alloc(0);
        read += piece.length;
        hash.update(piece);
      }
      await sleep(Math.max(0, until - performance.now()));
      note();
    }
    const metrics = await Promise.all(scene.cluster.nodes.map(async (node) => await node.metrics()));
    const buffered = metrics.map((of) => of.sum("kas_stream_buffered_bytes") / MIB);
    for await (const bytes of socket as AsyncIterable<Buffer>) {
      read += bytes.length;
      hash.update(bytes);
    }
    socket.destroy();

    expect(read).toBe(256 * MIB);
    expect(hash.digest("hex")).toBe(hashOf(256 * MIB));
    expect(Math.max(...buffered), "MiB held by a node for it").toBeLessThanOrEqual(8);
    expect(most, "MiB more while the reader was slow").toBeLessThanOrEqual(32);
    report("F3 upgraded", { most, buffered, ...(await scene.end(gate)) });
  });

  const leaving = [
    { left: "resets its connection", leave: (socket: Socket) => void socket.resetAndDestroy(), within: NOTICED_WITHIN },
    // Its end is behind bytes that nobody reads: only time tells.
    { left: "closes it", leave: (socket: Socket) => void socket.destroy(), within: 2 * STALLED_AFTER + NOTICED_WITHIN },
  ];
  it.each(leaving)("F2: ends a request whose caller $left while its upload waits", async ({ leave, within }) => {
    const socket = await raw(`POST ${path("/hold?id=left")}`);
    socket.write(`Content-Length: ${100 * MIB}\r\n\r\n`);
    socket.write(Buffer.alloc(20 * MIB));
    await until("the upload at the upstream", () => scene.upstream(1).holds("left"));
    await sleep(1_000);
    expect(await streams()).toBe(1);

    leave(socket);
    const left = performance.now();
    await until("nothing to be left of it", async () => (await streams()) === 0, { within });
    const noticed = performance.now() - left;
    // This upstream reads nothing either, so it does not see that agentk has gone.
    scene.upstream(1).release("left");
    report("F2 caller left", { noticed, ...(await scene.end(gate)) });
  });

  describe.skipIf(!BlackHole.available())("behind a network that loses everything", () => {
    async function watch(query: string): Promise<{ readonly socket: Socket; bytes(): number; ended(): boolean }> {
      const socket = await raw(`GET ${path(`/${query}`)}`, FAR);
      let bytes = 0;
      let ended = false;
      socket.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
      });
      socket.on("close", () => {
        ended = true;
      });
      socket.write("\r\n");
      await until("the answer to begin", () => bytes > 0);
      return { socket, bytes: () => bytes, ended: () => ended };
    }

    it("F21: ends a watch at both ends when its caller is out of reach for good and nothing happens on it", async () => {
      using hole = new BlackHole();
      const { socket, ended } = await watch("stall");
      socket.setKeepAlive(true, 1_000); // as kubectl does, every 30 s
      await until("the watch to run", () => scene.active === 1);
      hole.open();
      const silent = performance.now();
      await until("kas to end it", async () => (await streams()) === 0, { within: SILENT_WITHIN });
      const broken = performance.now() - silent;
      await until("its caller to hear of it", ended, { within: SILENT_WITHIN });
      hole.close();
      socket.destroy();
      report("F21 caller", { broken, ...(await scene.end(gate)) });
    });

    it("F21: ends an upload that waits when its caller is out of reach for good", async () => {
      using hole = new BlackHole();
      const socket = await raw(`POST ${path("/hold?id=silent")}`, FAR);
      socket.write(`Content-Length: ${100 * MIB}\r\n\r\n`);
      socket.write(Buffer.alloc(20 * MIB));
      await until("the upload at the upstream", () => scene.upstream(1).holds("silent"));
      hole.open();
      const silent = performance.now();
      await until("kas to end it", async () => (await streams()) === 0, { within: SILENT_WITHIN });
      const broken = performance.now() - silent;
      hole.close();
      socket.destroy();
      scene.upstream(1).release("silent");
      report("F21 caller's upload", { broken, ...(await scene.end(gate)) });
    });

    it("F21: goes on, and loses nothing, when its caller was out of reach for 12 s (a fifth) while events came", async () => {
      using hole = new BlackHole();
      const { socket, bytes, ended } = await watch("answer?id=busy&pieces=200&ms=100");
      const before = bytes();
      hole.open();
      await sleep(12_000);
      hole.close();
      const lost = bytes();
      await until("the events to go on", () => bytes() > lost + 500, { within: SILENT_WITHIN });
      await until("all of them", () => bytes() >= before + 195 * "piece busy\n".length, { within: SILENT_WITHIN });
      expect(ended()).toBe(false);
      socket.destroy();
      report("F21 caller, events", await scene.end(gate));
    });
  });
});
