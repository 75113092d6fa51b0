/** kas.yaml: defaults, environment, and every fault with its line. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type KasConfigSources, parseKasConfig } from "../../src/config/kas.ts";
import { Failed } from "../../src/failed.ts";

const SECRET = `${Buffer.alloc(32, 7).toString("base64")}\n`;
const files: Record<string, string> = { secret: SECRET, short: "aGVsbG8=\n", cert: "PEM", key: "PEM" };

function sources(env: Record<string, string> = {}, more: Partial<KasConfigSources> = {}): KasConfigSources {
  return {
    file: "kas.yaml",
    env,
    hostname: "Host.Example_1",
    interfaces: ["127.0.0.1", "10.1.2.3"],
    readFile(path) {
      const content = files[path];
      if (content === undefined) throw new Error("ENOENT: no such file or directory");
      return content;
    },
    ...more,
  };
}

const parse = (text: string, env: Record<string, string> = {}) => parseKasConfig(text, sources(env));

function faultsOf(text: string, env: Record<string, string> = {}): string[] {
  try {
    parse(text, env);
  } catch (error) {
    if (error instanceof Failed && error.failure.code === "invalid") return error.failure.reason.split("\n").slice(1);
    throw error;
  }
  throw new Error("expected faults, found none");
}

const CLUSTER = `private_api: { listen: { authentication_secret_file: secret } }\nnats: { servers: [ "nats://n:4222" ] }\n`;

describe("defaults", () => {
  it("gives an empty file the defaults of the design", () => {
    const { config, warnings } = parse("");
    expect(warnings).toEqual([expect.stringMatching(/^nobody can log in/)]);
    expect(config.agent.listen).toMatchObject({
      network: "tcp",
      address: { host: "127.0.0.1", port: 8150 },
      websocket: false,
      listen_grace_period: 5_000,
    });
    expect(config.agent.kubernetes_api.listen.address.port).toBe(8154);
    expect(config.observability.listen.address.port).toBe(8151);
    expect(config).toMatchObject({ drain_timeout: 3_600_000, cluster: { name: "default", homes: 2 } });
    expect(config.agent.offline_after).toBe(150_000);
    expect([config.api, config.private_api, config.nats, config.own_private_api]).toEqual([
      undefined,
      undefined,
      undefined,
      null,
    ]);
  });

  it("names the node after the pod, else after the host, in letters the ring takes", () => {
    expect(parse("").config.node.name).toBe("host-example-1");
    expect(parse("", { POD_NAME: "kas-0" }).config.node.name).toBe("kas-0");
    expect(parse("node: { name: a }", { POD_NAME: "kas-0" }).config.node.name).toBe("a");
  });

  it("serves api and private_api at GitLab's addresses once they have a secret", () => {
    const { config } = parse(`api: { listen: { authentication_secret_file: secret } }\n${CLUSTER}`);
    expect(config.api?.listen.address.port).toBe(8153);
    expect(config.own_private_api).toEqual({ host: "127.0.0.1", port: 8155, tls: false, serverName: "127.0.0.1" });
  });

  it("takes a file of GitLab's kas and warns of what has no use, with its line", () => {
    const text = [
      "gitlab:",
      "  address: http://gitlab.example.com",
      "  authentication_secret_file: secret",
      "agent:",
      "  redis_conn_info_ttl: 300s",
      "  kubernetes_api:",
      "    listen: { address: ':8154' }",
      "    url_path_prefix: /k8s-proxy/",
      "redis:",
      "  server: { address: 'redis:6379' }",
      "observability:",
      "  sentry: { dsn: x }",
      "  usage_reporting_period: 0",
      "  logging: { level: debug, grpc_level: warn }",
    ].join("\n");
    const { config, warnings } = parse(text);
    expect(config.agent.kubernetes_api.listen.address).toEqual({ host: "", port: 8154 });
    expect(warnings.map((warning) => warning.split(" ")[0])).toEqual([
      "kas.yaml:9:",
      "kas.yaml:5:",
      "kas.yaml:12:",
      "kas.yaml:13:",
    ]);
    expect(warnings[0]).toContain("NATS");
  });
});

describe("faults", () => {
  it("names all of them at once, each with line, place and what was expected", () => {
    const text =
      "agent:\n  listen:\n    adress: x\n    address: foo\ndrain_timeout: 5x\nwebsocket: true\ncluster:\n  homes: 9\n";
    const faults = faultsOf(text);
    expect(faults).toHaveLength(5);
    expect(faults[0]).toBe("kas.yaml:3: agent.listen.adress: no such setting; did you mean agent.listen.address?");
    expect(faults[1]).toMatch(/^kas\.yaml:4: agent\.listen\.address: expected host:port.*found "foo"$/);
    expect(faults[2]).toMatch(/^kas\.yaml:5: drain_timeout: expected a duration/);
    expect(faults[3]).toBe("kas.yaml:6: websocket: no such setting; did you mean agent.listen.websocket?");
    expect(faults[4]).toMatch(/^kas\.yaml:8: cluster\.homes: expected one of 1, 2, 3, all, found 9/);
  });

  it("finds rules between settings in the same run as faults of single ones", () => {
    const faults = faultsOf(
      "api: {}\ntimings: { suspect_after: 1s }\nagent: { listen: { certificate_file: cert } }\nx: 1\n",
    );
    expect(faults.map((fault) => fault.split(": ").slice(0, 2).join(" "))).toEqual([
      "kas.yaml:1 api.listen.authentication_secret_file",
      "kas.yaml:2 timings.suspect_after",
      "kas.yaml:3 agent.listen.certificate_file",
      "kas.yaml:4 x",
    ]);
    expect(faults[0]).toContain("openssl rand -base64 32");
  });

  it("requires the private API's secret with nats", () => {
    expect(faultsOf("nats: { servers: [ n:4222 ] }")).toEqual([
      expect.stringMatching(/^kas\.yaml:1: private_api\.listen\.authentication_secret_file: is missing: with nats/),
    ]);
  });

  it("refuses a wildcard private API with nats unless its own address is told", () => {
    const wildcard = CLUSTER.replace("{ authentication", "{ address: ':8155', authentication");
    expect(faultsOf(wildcard)).toEqual([
      expect.stringMatching(/^kas\.yaml:1: private_api\.listen\.address: .*OWN_PRIVATE_API_URL/),
    ]);
    expect(parse(wildcard, { OWN_PRIVATE_API_URL: "grpc://10.0.0.9:8155" }).config.own_private_api?.host).toBe(
      "10.0.0.9",
    );
    expect(parse(wildcard, { OWN_PRIVATE_API_CIDR: "10.0.0.0/8" }).config.own_private_api?.host).toBe("10.1.2.3");
  });

  it("says which file cannot be read and which secret is none, and never its content", () => {
    const faults = faultsOf(
      "api: { listen: { authentication_secret_file: short } }\nauthentication: { static_file: gone }\n",
    );
    expect(faults[0]).toMatch(/^kas\.yaml:1: .*: short: line 1 holds 5 bytes: at least 32/);
    expect(faults[1]).toMatch(/^kas\.yaml:2: authentication\.static_file: gone cannot be read: ENOENT/);
    expect(faults.join()).not.toContain("aGVsbG8");
    const inline = faultsOf(`api: { listen: { authentication_secret_file: "${SECRET.trim()}" } }`).join();
    expect(inline).toContain("looks like a secret itself");
    expect(inline).not.toContain(SECRET.trim());
  });

  it("gives the line of a syntax error and of a key written twice", () => {
    expect(faultsOf("agent:\n  listen: [\n")[0]).toMatch(/^kas\.yaml:[23]: /);
    expect(faultsOf("drain_timeout: 1s\ndrain_timeout: 2s\n")[0]).toMatch(/^kas\.yaml:2: .*unique/);
    expect(faultsOf("just a text")[0]).toMatch(/^kas\.yaml:1: expected settings/);
  });

  it("does not repeat the password of a server's address", () => {
    expect(
      faultsOf("gitlab: { address: 'ftp://user:hunter2@x', authentication_secret_file: secret }").join(),
    ).not.toContain("hunter2");
  });

  it("throws nothing but `invalid`, whatever the file holds", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        try {
          parse(text);
        } catch (error) {
          expect(error).toBeInstanceOf(Failed);
        }
      }),
    );
  });
});

describe("environment", () => {
  it("beats the file, with types as in the file", () => {
    const env = {
      KAS_AGENT__LISTEN__ADDRESS: "127.0.0.1:0",
      KAS_AGENT__LISTEN__WEBSOCKET: "true",
      KAS_DRAIN_TIMEOUT: "90",
      KAS_CLUSTER__HOMES: "all",
      KAS_CLUSTER__NAME: "7",
      KAS_NATS__SERVERS: "nats://a:4222, nats://b:4222",
      KAS_PRIVATE_API__LISTEN__AUTHENTICATION_SECRET_FILE: "secret",
    };
    const { config } = parse("agent: { listen: { address: '127.0.0.1:1', websocket: false } }", env);
    expect(config.agent.listen).toMatchObject({ address: { port: 0 }, websocket: true });
    expect(config).toMatchObject({ drain_timeout: 90_000, cluster: { homes: "all", name: "7" } });
    expect(config.nats?.servers).toEqual(["nats://a:4222", "nats://b:4222"]);
  });

  it("names the variable of a fault, and the nearest one to an unknown variable", () => {
    const faults = faultsOf("", { KAS_CLUSTER__HOMES: "7", KAS_CLUSTER__HOME: "1" });
    expect(faults).toContainEqual(expect.stringMatching(/^environment variable KAS_CLUSTER__HOMES: expected one of/));
    expect(faults).toContainEqual(
      "environment variable KAS_CLUSTER__HOME: no such setting; did you mean KAS_CLUSTER__HOMES?",
    );
  });

  it("leaves the variables alone that Kubernetes makes for a Service named kas", () => {
    expect(parse("", { KAS_PORT: "tcp://10.0.0.1:8150", KAS_SERVICE_HOST: "10.0.0.1" }).config).toEqual(
      parse("").config,
    );
  });
});
