/** The body of a request as the upstream gets it: at the upstream's pace, framed as declared, stopped when unwanted. */
import { createHash, randomBytes } from "node:crypto";
import { afterEach, describe, expect, it } from "vitest";
import { Caller } from "./caller.ts";
import { labOn, settled } from "./executor-lab.ts";

let stack = new AsyncDisposableStack();
const lab = labOn(() => stack);
afterEach(async () => {
  await stack.disposeAsync();
  stack = new AsyncDisposableStack();
});

describe("a request body", () => {
  it("of 20 MB arrives whole, and its sender is credited only as it leaves", async () => {
    const hash = createHash("sha256");
    const { executor, server } = await lab((request, response) => {
      request.on("data", (chunk) => hash.update(chunk));
      request.on("end", () => response.end(hash.digest("hex")));
    });
    const body = randomBytes(20 * 1024 * 1024);
    const caller = new Caller(executor.execute, { method: "POST" }, { end: false });
    for (let at = 0; at < body.length; at += 50_000) caller.stream.data(body.subarray(at, at + 50_000));
    caller.stream.end();
    await caller.done();
    expect(caller.text).toBe(createHash("sha256").update(body).digest("hex"));
    expect(caller.stream.mostOutstanding).toBeLessThanOrEqual(64 * 1024);
    expect(server.requests[0]?.headers["transfer-encoding"]).toBe("chunked");
  });

  it("that the upstream does not read stops at the window", async () => {
    const { executor } = await lab((request) => {
      request.pause();
    });
    const caller = new Caller(executor.execute, { method: "POST" }, { end: false });
    const total = 64 * 1024 * 1024;
    for (let at = 0; at < total; at += 1 << 20) caller.stream.data(Buffer.alloc(1 << 20));
    await caller.until((c) => c.sentBytes > 0);
    await settled(() => caller.sentBytes);
    // What the kernel's socket buffers hold, and one window.
    expect(caller.sentBytes).toBeLessThan(total / 2);
    expect(caller.stream.mostOutstanding).toBeLessThanOrEqual(64 * 1024);
    caller.stream.reset({ failure: { code: "cancelled", reason: "" }, unprocessed: false });
    expect(caller.isClosed).toBe(true);
  });

  it("that came whole with its end is sent with its length, whether declared or not", async () => {
    const { executor, server } = await lab((request, response) => void request.pipe(response));
    for (const headers of [[], ["content-length", "5"]]) {
      const caller = new Caller(executor.execute, { method: "PUT", headers }, { end: false });
      caller.stream.data(Buffer.from("hello"));
      caller.stream.end();
      await caller.done();
      expect(caller.text).toBe("hello");
      expect(server.requests.at(-1)?.headers["content-length"]).toBe("5");
    }
  });

  it("is absent when the request ended without data", async () => {
    const { executor, server } = await lab((_, response) => response.end());
    await new Caller(executor.execute, { method: "GET" }).done();
    expect(server.requests[0]?.headers).not.toHaveProperty("transfer-encoding");
    expect(server.requests[0]?.headers).not.toHaveProperty("content-length");
  });

  it("streams under way while the answer already comes", async () => {
    const { executor } = await lab((request, response) => {
      response.flushHeaders();
      request.pipe(response);
    });
    const caller = new Caller(executor.execute, { method: "POST" }, { end: false });
    caller.stream.data(Buffer.from("a"));
    await caller.until((c) => c.text === "a");
    caller.stream.data(Buffer.from("b"));
    await caller.until((c) => c.text === "ab");
    caller.stream.end();
    await caller.done();
    expect(caller.reset_).toBeNull();
  });

  it("is stopped when the answer ended before it", async () => {
    const { executor, server } = await lab((_, response) => {
      response.writeHead(413);
      response.end("too much");
    });
    const caller = new Caller(executor.execute, { method: "POST" }, { end: false });
    caller.stream.data(Buffer.from("start"));
    await caller.until((c) => c.ended && c.wasStopped);
    expect([caller.head_?.status, caller.text, caller.reset_]).toEqual([413, "too much", null]);
    caller.stream.data(Buffer.alloc(100));
    caller.stream.end();
    await caller.done();
    await server.until((s) => s.sockets.size === 0);
  });

  it("that is not as long as declared is refused", async () => {
    const { executor } = await lab((request, response) => void request.pipe(response));
    const empty = await new Caller(executor.execute, { method: "POST", headers: ["content-length", "3"] }).done();
    expect(empty.reset_?.failure.code).toBe("invalid");
    const long = new Caller(executor.execute, { method: "POST", headers: ["content-length", "3"] }, { end: false });
    long.stream.data(Buffer.from("four"));
    long.stream.end();
    await long.done();
    expect(long.reset_?.failure.code).toBe("invalid");
  });
});
