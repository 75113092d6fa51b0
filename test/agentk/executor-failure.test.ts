/** What becomes of a request when the upstream, the caller or the time fails it, and what is said of its outcome. */
import { createServer } from "node:https";
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from "node:net";
import { generate } from "selfsigned";
import { afterEach, describe, expect, it } from "vitest";
import { apiServerUpstream, createUpstreams } from "../../src/agentk/upstream.ts";
import { Caller, executorTo } from "./caller.ts";
import { labOn } from "./executor-lab.ts";

let stack = new AsyncDisposableStack();
const lab = labOn(() => stack);
afterEach(async () => {
  await stack.disposeAsync();
  stack = new AsyncDisposableStack();
});

describe("a failure", () => {
  it("to connect says that nothing was sent, to whom, and what to look at", async () => {
    const { executor, server } = await lab((_, response) => response.end());
    const { port } = server;
    await stack.disposeAsync();
    stack = new AsyncDisposableStack();
    const again = stack.use(executorTo(`http://127.0.0.1:${port}`));
    const caller = await new Caller(again.execute).done();
    expect(executor).not.toBe(again);
    expect(caller).toMatchObject({ wasAccepted: false, head_: null });
    expect(caller.reset_).toEqual({
      unprocessed: false,
      failure: {
        code: "upstream-unreachable",
        reason: `the agent could not connect to the Kubernetes API server at 127.0.0.1:${port} (ECONNREFUSED), nothing was sent: check that the agent's pod can reach it (network policy, kubeconfig)`,
      },
    });
  });

  it("after the request was sent leaves its outcome unknown", async () => {
    const { executor } = await lab((request) => request.socket.destroy());
    const caller = new Caller(executor.execute, { method: "POST" }, { end: false });
    caller.stream.data(Buffer.from("x"));
    caller.stream.end();
    await caller.done();
    expect(caller.wasAccepted).toBe(true);
    expect(caller.reset_).toMatchObject({ unprocessed: false, failure: { code: "outcome-unknown" } });
  });

  it("of the caller ends the request at the upstream at once", async () => {
    const { executor, server } = await lab((_, response) => {
      response.write("x");
    });
    const caller = await new Caller(executor.execute).until((c) => c.bytes === 1);
    expect(server.sockets.size).toBe(1);
    caller.stream.reset({ failure: { code: "cancelled", reason: "gone" }, unprocessed: false });
    await server.until((s) => s.sockets.size === 0);
  });

  it("is none when the caller wants no more of the answer, and the upstream is left at once", async () => {
    const { executor, server } = await lab((_, response) => {
      response.write("x");
    });
    const caller = await new Caller(executor.execute).until((c) => c.bytes === 1);
    caller.stream.stop();
    await caller.done();
    expect(caller).toMatchObject({ ended: true, reset_: null });
    await server.until((s) => s.sockets.size === 0);
  });

  it("of the caller while the connection is being made sends nothing", async () => {
    const own = await generate([{ name: "commonName", value: "api" }]);
    const requests: string[] = [];
    const secured = createServer({ cert: own.cert, key: own.private }, (request) => requests.push(request.url ?? ""));
    const { promise: connecting, resolve: connected } = Promise.withResolvers<Socket>();
    const server = stack.use(await listening(createTcpServer(connected)));
    const api = { url: new URL(`https://127.0.0.1:${server.port}`), tls: { rejectUnauthorized: false } } as const;
    const upstream = apiServerUpstream(
      { ...api, credential: { type: "none" }, impersonates: null },
      { value: "", renew() {} },
    );
    const executor = stack.use(executorTo(api.url.href, { upstreams: createUpstreams(upstream, new Map()) }));
    const caller = new Caller(executor.execute, { method: "POST", path: "/once" });
    const socket = await connecting;
    caller.stream.reset({ failure: { code: "cancelled", reason: "gone" }, unprocessed: false });
    const closed = new Promise((resolve) => socket.once("close", resolve));
    secured.emit("connection", socket);
    await closed;
    expect(requests).toEqual([]);
  });

  it("to finish in the time left ends both sides", async () => {
    const { executor, server } = await lab(() => {});
    const caller = await new Caller(executor.execute, { timeLeft: 20 }).done();

    expect(caller.reset_?.failure.code).toBe("deadline");
    await server.until((s) => s.sockets.size === 0);
  });

  it("to begin in time is proof that nothing was sent", async () => {
    const { executor, server } = await lab((_, response) => response.end());
    const caller = await new Caller(executor.execute, { acceptWithin: 20 }, { end: false }).done();
    expect(caller.reset_).toMatchObject({ unprocessed: true, failure: { code: "deadline" } });
    expect(server.requests).toEqual([]);
  });

  it("of a too long head of the answer is too-large", async () => {
    const { executor } = await lab((_, response) => {
      response.setHeader("x-long", "x".repeat(70_000));
      response.end();
    });
    const caller = await new Caller(executor.execute).done();
    expect(caller.reset_?.failure.code).toBe("too-large");
  });
});

async function listening(server: Server): Promise<AsyncDisposable & { readonly port: number }> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { port, [Symbol.asyncDispose]: () => new Promise<void>((resolve) => void server.close(() => resolve())) };
}
