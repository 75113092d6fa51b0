import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { type ObservabilityOptions, observabilityHandler } from "../../src/telemetry/observability-server.ts";

describe("the observability handler", () => {
  let server: Server | undefined;
  afterEach(async () => {
    server?.closeAllConnections();
    await new Promise((resolve) => server?.close(resolve));
  });

  async function serve(options: Partial<ObservabilityOptions> = {}) {
    const registry = { contentType: "text/plain", metrics: async () => "m 1\n" };
    const readiness = () => ({ ready: true, phase: "up", reason: "" });
    server = createServer(observabilityHandler({ registry, readiness, alive: () => true, ...options }));
    await new Promise<void>((resolve) => server?.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    return (path: string, init?: RequestInit) => fetch(`http://127.0.0.1:${port}${path}`, init);
  }

  it("serves the metrics of a real registry with its content type", async () => {
    using metrics = createMetrics({ node: "kas-0", version: "1", wholeProcess: false });
    const get = await serve({ registry: metrics.registry });
    const res = await get("/metrics?x=1");
    expect([res.status, res.headers.get("content-type")]).toEqual([200, metrics.registry.contentType]);
    expect(await res.text()).toContain("kas_build_info{");
  });

  it("answers readiness with the phase and why, as it is at that moment", async () => {
    let state = { ready: true, phase: "up", reason: "" };
    const get = await serve({ readiness: () => state });
    expect((await get("/readiness")).status).toBe(200);
    state = { ready: false, phase: "draining", reason: "SIGTERM was received" };
    const res = await get("/readiness");
    expect(res.status).toBe(503);
    expect(await res.json()).toEqual({ phase: "draining", reason: "SIGTERM was received" });
  });

  it("fails liveness only when the loop was stuck", async () => {
    let alive = true;
    const get = await serve({ alive: () => alive, readiness: () => ({ ready: false, phase: "joining", reason: "" }) });
    expect((await get("/liveness")).status).toBe(200);
    alive = false;
    expect((await get("/liveness")).status).toBe(503);
  });

  it("answers HEAD without a body, refuses other methods, and knows no other path", async () => {
    const get = await serve();
    const head = await get("/metrics", { method: "HEAD" });
    expect([head.status, head.headers.get("content-length"), await head.text()]).toEqual([200, "4", ""]);
    const post = await get("/readiness", { method: "POST", body: "x" });
    expect([post.status, post.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
    expect((await get("/")).status).toBe(404);
    expect((await get("/metrics/")).status).toBe(404);
  });

  it("serves the paths it was given and the pages of others", async () => {
    const get = await serve({
      paths: { metrics: "/m", liveness: "/l", readiness: "/r" },
      routes: (req, res) => {
        if (req.url !== "/api/v1/nodes") return false;
        res.end("[]");
        return true;
      },
    });
    for (const path of ["/m", "/l", "/r"]) expect((await get(path)).status, path).toBe(200);
    expect((await get("/metrics")).status).toBe(404);
    expect(await (await get("/api/v1/nodes")).text()).toBe("[]");
  });

  it("says 500 and logs why when metrics cannot be collected", async () => {
    const problems: unknown[] = [];
    const metrics = () => Promise.reject(new Error("a gauge failed"));
    const get = await serve({
      registry: { contentType: "text/plain", metrics },
      problem: (_message, cause) => problems.push(cause),
    });
    const res = await get("/metrics");
    expect(res.status).toBe(500);
    expect(await res.text()).not.toContain("a gauge failed");
    expect(problems).toMatchObject([{ message: "a gauge failed" }]);
  });
});
