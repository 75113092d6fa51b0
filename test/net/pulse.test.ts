/** What a listener finds out about sockets that nobody reads: plain and inside TLS, and what it never disturbs. */
import { createHash } from "node:crypto";
import { connect, type Socket } from "node:net";
import { connect as tlsConnect } from "node:tls";
import { beforeAll, describe, expect, it } from "vitest";
import { type ListenOptions, listen } from "../../src/net/listener.ts";
import { until } from "../proxy/harness.ts";
import { VirtualClock } from "../support/virtual-clock.ts";
import { CertificateFiles, makePair, type Pair } from "./certificate-files.ts";
import { portOf } from "./listener-sockets.ts";

const EVERY = 5_000;

let pair: Pair;
beforeAll(async () => {
  pair = await makePair("first");
});

type Met = { readonly served: Socket; readonly raw: Socket; readonly client: Socket };

describe.each(["plain", "tls"] as const)("a silent socket (%s)", (kind) => {
  const clock = new VirtualClock();

  async function meet(use: (met: Met) => Promise<void>): Promise<void> {
    using files = new CertificateFiles().write(pair);
    const { promise, resolve } = Promise.withResolvers<Socket>();
    const options: ListenOptions = { address: "127.0.0.1:0", clock, askEvery: EVERY, onSocket: resolve };
    await using listener = await listen({
      ...options,
      ...(kind === "tls" && { tls: { certificateFile: files.certificateFile, keyFile: files.keyFile } }),
    });
    const raw = connect({ port: portOf(listener), host: "127.0.0.1", allowHalfOpen: true });
    const client = kind === "tls" ? tlsConnect({ socket: raw, rejectUnauthorized: false }) : raw;
    for (const socket of [raw, client]) socket.on("error", () => {});
    client.write("more than node keeps for a user who does not read".repeat(10_000));
    const served = await promise;
    served.on("error", () => {});
    await use({ served, raw, client });
    for (const socket of [client, raw, served]) socket.destroy();
    await until(() => listener.connections === 0, "the listener forgets the socket");
  }

  /** Turns of the event loop, in which whatever happens by itself happens. */
  async function settle(): Promise<void> {
    for (let turns = 0; turns < 200; turns++) await new Promise(setImmediate);
  }

  it("that is not read is closed within two looks when its other side has reset it, and not before", async () => {
    await meet(async ({ served, raw }) => {
      served.pause();
      await settle();
      raw.resetAndDestroy();
      await settle();
      expect(served.destroyed, "nobody has noticed").toBe(false);
      for (let looks = 0; looks < 2 && !served.destroyed; looks++) {
        clock.advance(EVERY);
        await settle();
      }
      expect(served.destroyed).toBe(true);
    });
  });

  it("that is not read and whose other side is there stays as it is", async () => {
    await meet(async ({ served, client }) => {
      served.pause();
      for (let looks = 0; looks < 5; looks++) {
        clock.advance(EVERY);
        await settle();
      }
      expect([served.destroyed, served.bytesWritten, client.destroyed]).toEqual([false, 0, false]);
    });
  });

  it("that waits for its next request, with a timeout, is let alone: a write would put that off", async () => {
    await meet(async ({ served }) => {
      let writes = 0;
      Object.assign(served, {
        write() {
          writes++;
          return true;
        },
      });
      const look = async (timeout: number) => {
        served.setTimeout(timeout);
        for (let looks = 0; looks < 3; looks++) {
          await settle();
          clock.advance(EVERY);
        }
      };
      served.pause();
      await look(60_000);
      expect(writes).toBe(0);
      await look(0);
      expect(writes > 0, "inside TLS it is another socket that is asked").toBe(kind === "plain");
    });
  });

  it("that we have ended is read on", async () => {
    await meet(async ({ served, client }) => {
      let heard = "";
      served.on("data", (chunk) => {
        heard += chunk;
      });
      client.resume();
      served.end();
      await until(() => client.readableEnded, "the client hears our end");
      for (let looks = 0; looks < 3; looks++) {
        clock.advance(EVERY);
        await settle();
      }
      client.end("still here");
      await until(() => heard.endsWith("still here"), "what comes after our end");
    });
  });

  it("that is busy at the moment carries on byte for byte", async () => {
    await meet(async ({ served, client }) => {
      const sent = createHash("sha256");
      const got = createHash("sha256");
      let received = 0;
      client.on("data", (chunk: Buffer) => {
        received += chunk.length;
        got.update(chunk);
      });
      served.pause();
      for (let n = 0; n < 200; n++) {
        const chunk = Buffer.alloc(50_000, `piece ${n}`);
        sent.update(chunk);
        served.write(chunk);
        clock.advance(EVERY);
        if (n % 20 === 0) await new Promise(setImmediate);
      }
      await until(() => received === 10_000_000, "everything");
      expect(got.digest("hex")).toBe(sent.digest("hex"));
    });
  });
});
