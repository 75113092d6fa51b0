/** agentk for real: the pod of k8s/example with the account and rights that we ship, and nothing more, in a real cluster. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { accountAndRights, agentPod, NAMESPACE } from "./support/agent-pod.ts";
import { Cluster, noteVersions, printLogsOnFailure } from "./support/cluster.ts";
import { remoteHop } from "./support/hop.ts";
import { kubectl } from "./support/kubectl.ts";
import { admin } from "./support/kubernetes.ts";
import type { LeakGate } from "./support/leak-gate.ts";
import { rendered } from "./support/manifests.ts";
import { needKubernetesAndNats } from "./support/need.ts";
import { agentToken, merge, PREFIX, staticFile, TOKENS } from "./support/settings.ts";
import { until } from "./support/wait.ts";

const parts = await needKubernetesAndNats();
const MALLORY = "mallory-token";

describe.skipIf(!parts)("agentk as a pod with the rights that we ship", () => {
  const config = parts?.k8s.adminConfig ?? "";
  let cluster: Cluster;
  let gate: LeakGate;
  printLogsOnFailure(() => cluster);

  const apply = async (documents: readonly object[]) => {
    const list = { apiVersion: "v1", kind: "List", items: documents };
    await admin(config, ["apply", "-f", "-"], { stdin: JSON.stringify(list) });
  };

  beforeAll(async () => {
    if (!parts) return;
    const { users = [] } = staticFile() as { readonly users?: readonly object[] };
    const access = [{ agent_id: 1, as: "user", groups: ["devs"], services: [] }];
    const mallory = { username: "mallory", tokens: [MALLORY], access };
    cluster = await Cluster.start({
      nodes: 2,
      tls: "proxy",
      users: merge(staticFile(), { users: [...users, mallory] }),
    });
    const shipped = rendered("example");
    await kubectl(config, ["create", "namespace", NAMESPACE]);
    await kubectl(config, ["-n", NAMESPACE, "delete", "pod", "agentk", "--ignore-not-found", "--grace-period=1"]);
    await apply(accountAndRights(shipped));
    await apply(mayReadPods("alice"));
    await apply(agentPod(parts.k8s, shipped, `grpc://${cluster.node(1).address("agent")}`, agentToken(1)));
    const through = cluster.kubeconfig(0, 1);
    await until("the pod's connection", async () => (await kubectl(through, ["version"])).code === 0, {
      within: 60_000,
      every: 500,
    });
    await noteVersions(cluster);
    gate = await cluster.leakGate();
  }, 180_000);
  afterAll(async () => {
    if (!parts) return;
    await kubectl(config, ["-n", NAMESPACE, "delete", "pod", "agentk", "--ignore-not-found", "--grace-period=1"]);
    await kubectl(config, ["delete", "clusterroles,clusterrolebindings", "-l", "app=kas-e2e"]);
    await cluster?.[Symbol.asyncDispose]();
  });

  /** Raw: kubectl's own discovery of the API would answer a refusal with "unknown" first. */
  const getPods = async (token: string) =>
    await remoteHop(
      cluster.node(0),
      async () =>
        await kubectl(cluster.kubeconfig(0, 1, token), [
          "get",
          "--raw",
          `${PREFIX}api/v1/namespaces/default/pods?limit=5`,
        ]),
    );

  it("has an account of its own that may not read pods", async () => {
    const refused = await getPods(TOKENS.admin);

    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(
      new RegExp(`User "system:serviceaccount:${NAMESPACE}:agentk" cannot list resource "pods"`),
    );
    await gate.check();
  });

  it("impersonates the subject that its rights name", async () => {
    const pods = await getPods(TOKENS.alice);

    expect(pods).toMatchObject({ code: 0, stderr: "" });
    expect(JSON.parse(pods.stdout)).toMatchObject({ kind: "PodList" });
    await gate.check();
  });

  it("may not impersonate anybody else", async () => {
    const refused = await getPods(MALLORY);

    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(
      new RegExp(`"system:serviceaccount:${NAMESPACE}:agentk" cannot impersonate resource "users"`),
    );
    await gate.check();
  });
});

/** A role of our own: the built-in `view` is filled by a controller, which the lab does not have. */
const mayReadPods = (user: string) => {
  const meta = { name: "kas-e2e-readers", labels: { app: "kas-e2e" } };
  const group = "rbac.authorization.k8s.io";
  return [
    {
      apiVersion: `${group}/v1`,
      kind: "ClusterRole",
      metadata: meta,
      rules: [{ apiGroups: [""], resources: ["pods"], verbs: ["list"] }],
    },
    {
      apiVersion: `${group}/v1`,
      kind: "ClusterRoleBinding",
      metadata: meta,
      roleRef: { apiGroup: group, kind: "ClusterRole", name: meta.name },
      subjects: [{ kind: "User", apiGroup: group, name: user }],
    },
  ];
};
