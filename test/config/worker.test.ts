/** What each worker of `--workers N` is told: a name, a port and an observability listener of its own, the rest as in the file. */
import { describe, expect, it } from "vitest";
import { parseKasConfig } from "../../src/config/kas.ts";
import { withSharedPorts, workerConfigs } from "../../src/config/worker.ts";

const SECRET = Buffer.alloc(32, 7).toString("base64");

function configOf(env: Record<string, string> = {}, { listen = "10.0.0.1:8155", more = "" } = {}) {
  const text = `
node: { name: kas-0 }
nats: { servers: [ "nats://n:4222" ] }
private_api: { listen: { address: "${listen}", authentication_secret_file: secret } }
observability: { listen: { address: ":8151", certificate_file: cert, key_file: key } }
${more}`;
  const sources = { file: "kas.yaml", env, hostname: "host", interfaces: ["10.0.0.1"], readFile: () => SECRET };
  return parseKasConfig(text, sources).config;
}

describe("the workers of a node", () => {
  it("have names and peer addresses of their own, counted from the node's", () => {
    const workers = workerConfigs(configOf(), 3);
    expect(workers.map(({ node }) => node.name)).toEqual(["kas-0-w0", "kas-0-w1", "kas-0-w2"]);
    expect(workers.map(({ private_api }) => private_api?.listen.address.port)).toEqual([8155, 8156, 8157]);
    expect(workers.map(({ own_private_api }) => own_private_api)).toMatchObject([
      { host: "10.0.0.1", port: 8155 },
      { host: "10.0.0.1", port: 8156 },
      { host: "10.0.0.1", port: 8157 },
    ]);
  });

  it("count from the port of OWN_PRIVATE_API_URL, too", () => {
    const workers = workerConfigs(
      configOf({ OWN_PRIVATE_API_URL: "grpcs://kas.example:9000" }, { listen: ":8155" }),
      2,
    );
    expect(workers.map(({ own_private_api }) => own_private_api)).toMatchObject([
      { host: "kas.example", port: 9000, tls: true },
      { host: "kas.example", port: 9001, tls: true },
    ]);
    expect(workers.map(({ private_api }) => private_api?.listen.address.port)).toEqual([8155, 8156]);
  });

  it("each take any free port where the file says 0", () => {
    const workers = workerConfigs(configOf({}, { listen: "127.0.0.1:0" }), 2);
    expect(workers.map(({ private_api }) => private_api?.listen.address.port)).toEqual([0, 0]);
    expect(workers.map(({ own_private_api }) => own_private_api?.port)).toEqual([0, 0]);
  });

  it("are observed by their supervisor only, in the clear", () => {
    for (const { observability } of workerConfigs(configOf(), 2)) {
      expect(observability.listen.address).toEqual({ host: "127.0.0.1", port: 0 });
      expect(observability.listen).not.toHaveProperty("certificate_file");
      expect(observability.listen).not.toHaveProperty("key_file");
    }
  });

  it("differ in nothing else", () => {
    const config = configOf();
    const [, worker] = workerConfigs(config, 2);
    const { node: _n, private_api: _p, own_private_api: _o, observability: _m, ...rest } = config;
    expect(worker).toMatchObject(rest);
  });

  it("share the ports that were found for agents and callers", () => {
    const config = configOf({}, { more: 'agent: { listen: { address: "127.0.0.1:0" } }' });
    const moved = withSharedPorts(config, { agent: 4001, kubernetes_api: 4002 });
    expect(moved.agent.listen.address).toEqual({ host: "127.0.0.1", port: 4001 });
    expect(moved.agent.kubernetes_api.listen.address.port).toBe(4002);
    expect(moved.api).toBeUndefined();
  });
});

describe("a file that does not allow for workers", () => {
  it("is refused without nats, because workers meet there", () => {
    const sources = { file: "kas.yaml", env: {}, hostname: "host", interfaces: [], readFile: () => SECRET };
    const { config } = parseKasConfig("", sources);
    expect(() => workerConfigs(config, 2)).toThrow(/--workers 2 needs NATS: .*Set nats\.servers/);
  });

  it("is refused where a name would be too long", () => {
    const name = "a".repeat(61);
    const config = { ...configOf(), node: { name } } as ReturnType<typeof configOf>;
    expect(() => workerConfigs(config, 2)).toThrow(/longer than 63: set a shorter node\.name/);
  });

  it("is refused where a port would be too high", () => {
    expect(workerConfigs(configOf({}, { listen: "10.0.0.1:65534" }), 2)).toHaveLength(2);
    expect(() => workerConfigs(configOf({}, { listen: "10.0.0.1:65535" }), 2)).toThrow(/no port 65536/);
  });
});
