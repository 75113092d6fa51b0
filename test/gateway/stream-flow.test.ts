/** `Gateway.Stream` keeps no more than a window either way, however slow its caller or the agent reads. */
import { fromBinary } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { StreamResponseSchema } from "../../src/gen/kas/gateway/v1/gateway_pb.ts";
import { WINDOW } from "./fake-router.ts";
import { startRails, statusOf, type TestRails, until } from "./rails.ts";
import { data, endQuiet, head, KiB, message, PATH, type Part, streamOn } from "./stream-parts.ts";

describe("Gateway.Stream", () => {
  let rails: TestRails;
  beforeEach(async () => {
    rails = await startRails();
  });
  afterEach(() => endQuiet(rails));

  const stream = (...parts: Part[]) => streamOn(rails, parts);

  it("holds no more than a window for a reader that stops, and gives it all when it reads on", async () => {
    const size = 8 * 1024 * KiB;
    let sent = 0;
    rails.router.on("/big", async (served) => {
      served.head(200);
      for (; sent < size; sent += 64 * KiB) await served.data(Buffer.alloc(64 * KiB));
      served.end();
    });
    const call = rails.open(PATH);
    const ended = statusOf(call);
    call.write(message(head("/big")));
    call.end();
    let received = 0;
    call.on("data", (bytes: Buffer) => {
      const { part } = fromBinary(StreamResponseSchema, bytes);
      if (part.case === "head") call.pause();
      if (part.case === "data") received += part.value.length;
    });
    // The agent must come to a stand well before the end.
    let before = -1;
    while (sent !== before) {
      before = sent;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    expect(sent).toBeGreaterThan(0);
    expect(sent).toBeLessThan(size / 4);
    expect(rails.router.peakUnconsumed).toBeLessThanOrEqual(WINDOW);

    call.resume();

    expect((await ended).code).toBe(status.OK);
    expect(received).toBe(size);
    expect(rails.router.peakUnconsumed).toBeLessThanOrEqual(WINDOW);
  });

  it("reads no further while the agent does not take what was sent", async () => {
    let go = () => {};
    const started = new Promise<void>((resolve) => {
      go = resolve;
    });
    let received = 0;
    rails.router.on("/upload", async (served) => {
      await started;
      for (let piece = await served.read(); piece; piece = await served.read()) received += piece.length;
      served.head(200);
      served.end();
    });
    const call = rails.open(PATH);
    call.on("data", () => {});
    const ended = statusOf(call);
    call.write(message(head("/upload", { method: "PUT" })));
    for (let i = 0; i < 128; i += 1) call.write(message(data(Buffer.alloc(32 * KiB))));
    call.end();
    await until(() => rails.router.peakQueued >= 64 * KiB);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(rails.router.peakQueued).toBeLessThanOrEqual(96 * KiB);

    go();

    expect((await ended).code).toBe(status.OK);
    expect(received).toBe(128 * 32 * KiB);
  });

  it("takes thousands of small messages that come at once", async () => {
    let received = 0;
    rails.router.on("/upload", async (served) => {
      for (let piece = await served.read(); piece; piece = await served.read()) received += piece.length;
      served.head(200);
      served.end();
    });
    const parts = Array.from({ length: 20_000 }, () => data(Buffer.from("x")));

    const { status: ended } = await stream(head("/upload"), ...parts);

    expect([ended.code, received]).toEqual([status.OK, 20_000]);
  });
});
