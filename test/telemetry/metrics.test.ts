import { execFileSync, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { createAgentMetrics } from "../../src/telemetry/agent-metrics.ts";
import { createMetrics, type KasMetrics } from "../../src/telemetry/metrics.ts";

const promtool = spawnSync("promtool", ["--version"]).status === 0;

describe("the metrics of kas", () => {
  let metrics: KasMetrics;
  beforeEach(() => {
    metrics = createMetrics({ node: "kas-0", version: "1.2.3" });
  });
  afterEach(() => metrics[Symbol.dispose]());

  /** Whatever the order of its labels. */
  const value = async (series: string) => {
    const [name = "", labels = ""] = series.replace("}", "").split("{");
    const wanted = labels.split(",").toSorted().join();
    for (const line of (await metrics.registry.metrics()).split("\n")) {
      const [, found, its = "", number] = /^([a-z0-9_]+)\{(.*)\} (\S+)$/.exec(line) ?? [];
      if (found === name && its.split(",").toSorted().join() === wanted) return Number(number);
    }
    return undefined;
  };

  it("has every name that dashboards and alerts ask for, from the first collection", async () => {
    const text = await metrics.registry.metrics();
    const names = new Set([...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name));
    for (const name of [
      "kas_agents_connected",
      "kas_agent_connections",
      "kas_streams_active",
      "kas_streams_opened_total",
      "kas_streams_closed_total",
      "kas_stream_bytes_total",
      "kas_stream_buffered_bytes",
      "kas_proxy_requests_total",
      "kas_proxy_request_duration_seconds",
      "kas_route_duration_seconds",
      "kas_route_attempts",
      "kas_ring_members",
      "kas_ring_view",
      "kas_ring_changes_total",
      "kas_nats_connected",
      "kas_nats_reconnects_total",
      "kas_nats_subscriptions",
      "kas_auth_requests_total",
      "kas_limit_rejections_total",
      "kas_drain_phase",
      "kas_build_info",
      "kas_open_handles",
      "kas_peer_links",
      "kas_requests_parked",
      "kas_routing_entries",
      "kas_tls_certificate_expiry_timestamp_seconds",
      "rpc_server_call_duration_seconds",
      "process_cpu_seconds_total",
      "process_resident_memory_bytes",
      "nodejs_eventloop_delay_p50_seconds",
      "nodejs_eventloop_delay_p99_seconds",
    ]) {
      expect(names, name).toContain(name);
    }
  });

  it("starts every known series at zero, so that a rate sees the first event", async () => {
    expect(await value('kas_proxy_requests_total{method_class="exec",outcome="kas_error",node="kas-0"}')).toBe(0);
    expect(
      await value('kas_streams_closed_total{kind="grpc",hop="remote",reason="outcome-unknown",node="kas-0"}'),
    ).toBe(0);
    expect(await value('kas_route_duration_seconds_count{result="no_agent",node="kas-0"}')).toBe(0);
    metrics.proxy.requests.exec.kas_error.inc();
    expect(await value('kas_proxy_requests_total{method_class="exec",outcome="kas_error",node="kas-0"}')).toBe(1);
  });

  it("counts where it is told to", async () => {
    metrics.streams.active.http.local.inc();
    metrics.streams.bytes.response.remote.inc(1_024);
    metrics.route.duration.local.observe(0.003);
    metrics.rpc("kas.gateway.v1.Gateway/Request", "OK", 0.2);
    expect(await value('kas_streams_active{kind="http",hop="local",node="kas-0"}')).toBe(1);
    expect(await value('kas_stream_bytes_total{direction="response",hop="remote",node="kas-0"}')).toBe(1_024);
    expect(await value('kas_route_duration_seconds_bucket{le="0.004",node="kas-0",result="local"}')).toBe(1);
    expect(await value('kas_route_duration_seconds_bucket{le="0.001",node="kas-0",result="local"}')).toBe(0);
  });

  it("asks for levels at every collection, before it answers", async () => {
    let members = 3;
    metrics.onCollect(() => metrics.cluster.ringMembers.set(members));
    expect(await value('kas_ring_members{node="kas-0"}')).toBe(3);
    members = 2;
    expect(await value('kas_ring_members{node="kas-0"}')).toBe(2);
  });

  it("turns totals into counters that never fall", async () => {
    metrics.cluster.natsReconnects(2);
    metrics.cluster.natsReconnects(2);
    metrics.cluster.natsReconnects(5);
    metrics.cluster.refused({ signature: 4 });
    expect(await value('kas_nats_reconnects_total{node="kas-0"}')).toBe(5);
    expect(await value('kas_envelopes_refused_total{reason="signature",node="kas-0"}')).toBe(4);
  });

  it("keeps the twenty most frequent agent versions apart and adds up the rest", async () => {
    const rows = Array.from({ length: 30 }, (_, i) => ({
      transport: "grpc" as const,
      agent_version: `v${i}`,
      value: 100 - i,
    }));
    metrics.agents.connections(rows);
    const text = await metrics.registry.metrics();
    expect(text.match(/^kas_agent_connections\{/gm)?.length).toBe(21);
    const others = rows.slice(20).reduce((sum, row) => sum + row.value, 0);
    expect(text).toContain(`kas_agent_connections{transport="grpc",agent_version="other",node="kas-0"} ${others}`);
    metrics.agents.connections([]);
    expect(await metrics.registry.metrics()).not.toMatch(/^kas_agent_connections\{/m);
  });

  it("bounds what callers can name", async () => {
    for (let i = 0; i < 2_000; i++) metrics.rpc(`made.up/Method${i}`, "UNIMPLEMENTED", 0.001);
    const text = await metrics.registry.metrics();
    expect(text.match(/^rpc_server_call_duration_seconds_count/gm)?.length).toBeLessThanOrEqual(501);
    expect(text).toMatch(/rpc_server_call_duration_seconds_count\{.*rpc_method="_OTHER".*\} 1500/);
  });

  it("counts the open handles of the process by their type", async () => {
    const listeners = async () => (await value('kas_open_handles{type="TCPServerWrap",node="kas-0"}')) ?? 0;
    const before = await listeners();
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    expect(await listeners()).toBe(before + 1);
    server.close();
    await once(server, "close");
    await vi.waitFor(async () => expect(await listeners()).toBe(before));
  });

  it("is alive while its loop turns", () => {
    expect(metrics.alive()).toBe(true);
  });

  it("leaves the process's own numbers to one node of several", async () => {
    using second = createMetrics({ node: "kas-1", version: "1", wholeProcess: false });
    const text = await second.registry.metrics();
    expect(text).not.toContain("process_cpu");
    expect(text).toContain('kas_build_info{version="1"');
  });

  it.skipIf(!promtool)("is what promtool calls clean", async () => {
    const text = (await metrics.registry.metrics())
      .split("\n")
      .filter((line) => !/^(# (HELP|TYPE) )?(nodejs|process)_/.test(line))
      .join("\n");
    expect(execFileSync("promtool", ["check", "metrics"], { input: text }).toString()).toBe("");
  });
});

describe("the metrics of agentk", () => {
  it("has its names, and counts answers by class", async () => {
    using metrics = createAgentMetrics({ version: "1", wholeProcess: false });
    for (const status of [200, 204, 404, 101, 503, 0, 700]) metrics.upstreamAnswered(status);
    metrics.kasConnected.set(1);
    metrics.onCollect(() => metrics.streamsActive.set(4));
    const text = await metrics.registry.metrics();
    for (const line of [
      "agentk_kas_connected 1",
      "agentk_reconnects_total 0",
      "agentk_token_reload_total 0",
      "agentk_streams_active 4",
      'agentk_upstream_requests_total{code="2xx"} 2',
      'agentk_upstream_requests_total{code="1xx"} 1',
      'agentk_upstream_requests_total{code="error"} 2',
      "agentk_upstream_duration_seconds_count 0",
    ]) {
      expect(text).toContain(`\n${line}\n`);
    }
  });
});
