/** A cluster of one: no NATS, no private API, and kubectl works through it. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cluster, noteVersions, printLogsOnFailure } from "./support/cluster.ts";
import { localHop } from "./support/hop.ts";
import { kubectl } from "./support/kubectl.ts";
import { POD } from "./support/kubernetes.ts";
import { needKubernetes } from "./support/need.ts";

const k8s = await needKubernetes();

describe.skipIf(!k8s)("one node without NATS", () => {
  let cluster: Cluster;
  printLogsOnFailure(() => cluster);
  beforeAll(async () => {
    cluster = await Cluster.start({ nodes: 1, tls: "proxy" });
    await cluster.agent({ id: 1, on: [0], kubeconfig: k8s?.agentConfig ?? "" });
    await noteVersions(cluster);
  });
  afterAll(async () => await cluster?.[Symbol.asyncDispose]());

  it("serves `kubectl get pods`", async () => {
    const config = cluster.kubeconfig(0, 1);
    await kubectl(config, ["get", "pods"]);
    const gate = await cluster.leakGate();

    const pods = await localHop(cluster.node(0), async () => await kubectl(config, ["get", "pods"]));

    expect(pods.stderr).toBe("");
    expect(pods.code).toBe(0);
    expect(pods.stdout).toMatch(new RegExp(`^${POD} .*Running`, "m"));
    await gate.check();
  });
});
