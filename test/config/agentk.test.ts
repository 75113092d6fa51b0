/** agentk's flags and environment. */
import { describe, expect, it } from "vitest";
import { type AgentkFlags, parseAgentkConfig } from "../../src/config/agentk.ts";
import { Failed } from "../../src/failed.ts";

const FLAGS: AgentkFlags = { kasAddress: "grpc://127.0.0.1:8150", tokenFile: "token" };

function reason(flags: AgentkFlags, env: Record<string, string> = {}): string {
  try {
    parseAgentkConfig(flags, env);
  } catch (error) {
    if (error instanceof Failed) return error.failure.reason;
  }
  throw new Error("expected a fault");
}

describe("agentk's configuration", () => {
  it("needs an address and a token, the rest has defaults", () => {
    expect(parseAgentkConfig(FLAGS, {})).toMatchObject({
      kas: { scheme: "grpc", host: "127.0.0.1", port: 8150, path: "/", headers: [], proxy: null },
      token: { type: "file", path: "token" },
      kubeconfig: null,
      observability: { listen: { host: "127.0.0.1", port: 0 } },
      instance: null,
      timings: { backoffInitial: 500, backoffMax: 15_000 },
    });
  });

  it("reads address, headers, services and the pod as GitLab's agentk does", () => {
    const flags = {
      kasAddress: "wss://[::1]/-/kubernetes-agent/",
      kasHeader: ["X-Tenant: a: b"],
      service: ["prometheus=http://prometheus.monitoring.svc:9090/"],
    };
    const config = parseAgentkConfig(flags, { AGENTK_TOKEN: "t", POD_NAME: "agentk-1", POD_NAMESPACE: "gitlab" });
    expect(config.kas).toMatchObject({
      host: "::1",
      port: 443,
      path: "/-/kubernetes-agent/",
      headers: [["x-tenant", "a: b"]],
    });
    expect([...config.services]).toEqual([["prometheus", "http://prometheus.monitoring.svc:9090"]]);
    expect(config.token).toEqual({ type: "value", value: "t" });
    expect(config.instance).toBe("gitlab/agentk-1");
  });

  it("dials through the proxy of the environment", () => {
    const { kas } = parseAgentkConfig(
      { ...FLAGS, kasAddress: "grpcs://kas.example.com" },
      { https_proxy: "http://p:3128" },
    );
    expect(kas).toMatchObject({ port: 443, proxy: "http://p:3128" });
  });

  it("names every fault at once", () => {
    const text = reason({ kasAddress: "http://x", service: ["a", "b=ftp://c"], observabilityListenAddress: "x" });
    expect(text.split("\n")).toHaveLength(6);
    for (const flag of ["--kas-address", "--token-file", '--service "a"', "--service", "--observability"])
      expect(text).toContain(flag);
  });

  it("refuses two tokens, a service given twice, and headers it sets itself, without repeating their values", () => {
    expect(reason(FLAGS, { AGENTK_TOKEN: "s3cret" })).toContain("keep one");
    expect(reason({ ...FLAGS, service: ["a=http://b", "a=http://c"] })).toContain("twice");
    const text = reason({ ...FLAGS, kasHeader: ["Authorization: s3cret", "s3cret"] });
    expect(text).toContain("authorization");
    expect(text).not.toContain("s3cret");
  });
});
