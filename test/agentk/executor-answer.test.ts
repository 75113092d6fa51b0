/** The answer of an upstream as its caller gets it: whole, as it comes, at the caller's pace, or visibly broken. */
import { afterEach, describe, expect, it } from "vitest";
import { Caller } from "./caller.ts";
import { labOn, settled } from "./executor-lab.ts";

let stack = new AsyncDisposableStack();
const lab = labOn(() => stack);
afterEach(async () => {
  await stack.disposeAsync();
  stack = new AsyncDisposableStack();
});

describe("an answer", () => {
  it("comes with its status, its headers and its body", async () => {
    const { executor, server } = await lab(
      (request, response) => {
        response.writeHead(201, { "X-One": "1", "Set-Cookie": ["a=1", "b=2"] });
        response.end(`${request.method} ${request.url} ${request.headers.host} ${request.headers.authorization}`);
      },
      { token: "Bearer agent" },
    );
    const headers = ["host", "evil", "authorization", "Bearer caller", "cookie", "c=1", "x-remote-user", "root"];
    const caller = await new Caller(executor.execute, { path: "/api/v1/a%2Fb/..//c?x=%20", headers }).done();

    expect(caller.head_?.status).toBe(201);
    expect(caller.head_?.headers.join(" ")).toContain("x-one 1 set-cookie a=1 set-cookie b=2");
    expect(caller.head_?.headers).not.toContain("connection");
    expect(caller.text).toBe(`GET /api/v1/a%2Fb/..//c?x=%20 127.0.0.1:${server.port} Bearer agent`);
    expect(server.requests[0]?.headers).not.toHaveProperty("cookie");
    expect(server.requests[0]?.headers).not.toHaveProperty("x-remote-user");
    expect(caller).toMatchObject({ wasAccepted: true, ended: true, reset_: null });
  });

  it("streams its first bytes before its last are there", async () => {
    let finish = () => {};
    const { executor } = await lab((_, response) => {
      response.write("first");
      finish = () => response.end("last");
    });
    const caller = await new Caller(executor.execute).until((c) => c.text === "first");
    expect(caller.ended).toBe(false);
    finish();
    await caller.done();
    expect(caller.text).toBe("firstlast");
  });

  it("is read from the upstream only as fast as the caller takes it", async () => {
    const total = 20 * 1024 * 1024;
    let written = 0;
    const { executor } = await lab((_, response) => {
      const chunk = Buffer.alloc(64 * 1024);
      const more = () => {
        while (written < total) {
          written += chunk.length;
          if (!response.write(chunk)) return response.once("drain", more);
        }
        return response.end();
      };
      more();
    });
    const caller = new Caller(executor.execute);
    caller.reading = false;
    await caller.until((c) => c.bytes === 64 * 1024);
    await settled(() => written);
    expect(caller.bytes).toBe(64 * 1024);
    expect(caller.executor.queued).toBeLessThanOrEqual(192 * 1024);
    expect(written).toBeLessThan(total);
    caller.take();
    await caller.done();
    expect(caller.bytes).toBe(total);
  });

  it("has its trailers", async () => {
    const { executor } = await lab((_, response) => {
      response.writeHead(200, { Trailer: "X-Sum" });
      response.write("x");
      response.addTrailers({ "X-Sum": "42" });
      response.end();
    });
    const caller = await new Caller(executor.execute).done();
    expect(caller.trailer_).toEqual({ status: 0, message: "", headers: ["x-sum", "42"] });
  });

  it.each([
    ["HEAD", 200],
    ["GET", 204],
    ["GET", 304],
  ])("to %s with status %d has no body and ends", async (method, status) => {
    const { executor } = await lab((_, response) => {
      response.writeHead(status, status === 200 ? { "content-length": "5" } : {});
      response.end();
    });
    const caller = await new Caller(executor.execute, { method }).done();
    expect(caller).toMatchObject({ bytes: 0, ended: true, reset_: null });
    expect(caller.head_?.status).toBe(status);
    expect(caller.header("content-length")).toBe(status === 200 ? "5" : caller.header("content-length"));
  });

  it("is the final one: interim answers are not passed on", async () => {
    const { executor } = await lab((_, response) => {
      response.writeEarlyHints({ link: "</x>; rel=preload" });
      response.end("final");
    });
    const caller = await new Caller(executor.execute).done();
    expect([caller.head_?.status, caller.text]).toEqual([200, "final"]);
  });

  it("that breaks off in the middle is reset, so that half of it never looks whole", async () => {
    const { executor } = await lab((_, response) => {
      response.writeHead(200, { "content-length": "100" });
      response.write("half", () => response.destroy());
    });
    const caller = await new Caller(executor.execute).done();
    expect(caller.ended).toBe(false);
    expect(caller.reset_).toMatchObject({ unprocessed: false, failure: { code: "outcome-unknown" } });
  });
});
