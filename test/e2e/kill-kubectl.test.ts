/** A real kubectl against a real API server while holders die: what it created and ran, counted in the cluster itself. */
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Cluster, noteVersions, printLogsOnFailure } from "./support/cluster.ts";
import { remoteHop } from "./support/hop.ts";
import { kubectl, startKubectl } from "./support/kubectl.ts";
import { admin, POD } from "./support/kubernetes.ts";
import { LeakGate } from "./support/leak-gate.ts";
import { needKubernetesAndNats } from "./support/need.ts";
import { until } from "./support/wait.ts";

const parts = await needKubernetesAndNats();
const unique = randomBytes(4).toString("hex");
const KUBECTLS = 24;

describe.skipIf(!parts)("kubectl while a holder is killed with -9", () => {
  const adminConfig = parts?.k8s.adminConfig ?? "";
  let cluster: Cluster;
  let config: string;
  let gate: LeakGate;
  printLogsOnFailure(() => cluster);

  beforeAll(async () => {
    cluster = await Cluster.start({ nodes: 3, tls: "proxy" });
    await cluster.agent({ id: 1, on: [1, 2], kubeconfig: parts?.k8s.agentConfig ?? "" });
    await noteVersions(cluster);
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    if (parts) await admin(adminConfig, ["delete", "configmaps", "-l", `kas-e2e-run=${unique}`]);
  });
  beforeEach(async () => {
    await cluster.heal();
    config = cluster.kubeconfig(0, 1);
    await until("a warm route", async () => (await kubectl(config, ["get", "pods"])).code === 0);
    gate = await LeakGate.baseline(() => cluster.watched());
  });

  /** The object has another name each time it is created, so that a second execution shows. */
  const create = async (n: number) => {
    const labels = { "kas-e2e-run": unique, "kas-e2e-n": String(n) };
    const manifest = { apiVersion: "v1", kind: "ConfigMap", metadata: { generateName: "kas-e2e-", labels } };
    const args = ["create", "--validate=false", "-f", "-"];
    return { n, ...(await kubectl(config, args, { stdin: JSON.stringify(manifest) })) };
  };
  const created = async (n: number) => {
    const args = ["get", "configmaps", "-l", `kas-e2e-run=${unique},kas-e2e-n=${n}`, "-o", "name"];
    return (await admin(adminConfig, args)).split("\n").filter(Boolean).length;
  };

  it("creates nothing twice", async () => {
    const results = await remoteHop(cluster.node(0), async () => {
      const all: Awaited<ReturnType<typeof create>>[] = [];
      let next = 0;
      const worker = async () => {
        while (next < KUBECTLS) all.push(await create(next++));
      };
      const workers = Promise.all([worker(), worker(), worker()]);
      await until("some objects", () => all.length >= KUBECTLS / 4);
      await cluster.node(1).child.kill();
      await workers;
      return all;
    });

    for (const { n, code, stderr } of results) {
      const count = await created(n);
      expect(count, `object ${n}; kubectl said ${code} ${stderr}`).toBeLessThanOrEqual(1);
      if (code === 0) expect(count).toBe(1);
    }
    expect(results.filter(({ code }) => code === 0).length).toBeGreaterThanOrEqual(KUBECTLS / 2);
    await gate.check({ moreHandles: 4 });
  });

  it("runs the command of `exec` once", async () => {
    const file = `/tmp/ran-${unique}`;
    const count = async () => {
      const { stdout } = await kubectl(adminConfig, ["exec", POD, "--", "cat", file]);
      return stdout.split("\n").filter(Boolean).length;
    };
    await remoteHop(cluster.node(0), async () => {
      await using exec = startKubectl(cluster.dir, config, [
        "exec",
        POD,
        "--",
        "sh",
        "-c",
        `echo ran >> ${file}; sleep 30`,
      ]);
      await until("the command to run", async () => (await count()) === 1, { every: 200 });
      await cluster.named(cluster.agents[0]?.node ?? "").child.kill();
      await exec.exited;
    });

    expect(await count()).toBe(1);
    await gate.check({ moreHandles: 4 });
  });
});
