/** Rails' client family against a real cluster: the Ruby program of this folder, with Debian's gRPC. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Child } from "./support/child.ts";
import { Cluster, noteVersions, printLogsOnFailure } from "./support/cluster.ts";
import { remoteHop } from "./support/hop.ts";
import type { LeakGate } from "./support/leak-gate.ts";
import { needNats, needRuby } from "./support/need.ts";
import { ROOT } from "./support/run-dir.ts";
import { Upstream } from "./support/upstream.ts";

const [nats, ruby] = [await needNats(), await needRuby()];
const run = promisify(execFile);
const PROGRAM = join(ROOT, "test", "e2e", "ruby", "gateway_client.rb");

describe.skipIf(!nats || !ruby)("Rails' Ruby client on the other node", () => {
  let cluster: Cluster;
  let upstream: Upstream;
  let gate: LeakGate;
  printLogsOnFailure(() => cluster);

  beforeAll(async () => {
    upstream = await Upstream.listen();
    cluster = await Cluster.start({ nodes: 2 });
    await cluster.agent({ id: 1, on: [1], services: { upstream: upstream.url } });
    await call("request", "1", "upstream", "GET", "/hello");
    await noteVersions(cluster);
    gate = await cluster.leakGate();
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await upstream?.[Symbol.asyncDispose]();
  });

  const args = (...more: readonly string[]) => {
    const [verb = "", ...rest] = more;
    return [PROGRAM, verb, cluster.node(0).address("api"), cluster.secrets.apiFile, ...rest];
  };
  /** JSON lines that the program printed. */
  const call = async (...more: readonly string[]) => {
    const { stdout } = await run(ruby ?? "", args(...more), { timeout: 30_000 });
    return stdout
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  };

  it("lists the agents of all nodes", async () => {
    const lines = await call("list");

    expect(JSON.stringify(lines)).toContain("agent-1");
    await gate.check();
  });

  it("sends a request to an agent's service", async () => {
    const [answer] = await remoteHop(
      cluster.node(0),
      async () => await call("request", "1", "upstream", "GET", "/hello"),
    );

    expect(answer).toMatchObject({ status: 200, body: "hello" });
    await gate.check();
  });

  it("watches agents come and go", async () => {
    await using watch = new Child({ name: "ruby-watch", command: ruby ?? "", args: args("watch"), dir: cluster.dir });
    await watch.whileAlive(
      "the snapshot",
      () => watch.lines.some((line) => "snapshot" in line || line.type === "snapshot") || undefined,
    );
    const second = await cluster.agent({ id: 2, on: [1] });
    await watch.whileAlive("the newcomer", () => watch.text().includes("agent-2") || undefined);
    await second.child.stop();
    await watch.whileAlive("its leave", () => /disconnected/.test(watch.text()) || undefined);

    await watch.kill();
    await gate.check();
  });
});
