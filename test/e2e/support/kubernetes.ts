/**
 * The real cluster that tests run against: where its kubeconfigs are, and a pod of ours in it (a web server on the node's
 * loopback, a line a second on stdout). Takes any cluster; the lab is only one of them.
 */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { type KubectlOptions, kubectl } from "./kubectl.ts";
import { until } from "./wait.ts";

export const POD = "kas-e2e";
/** The pod's web server listens here, on 127.0.0.1 of its node. */
export const POD_PORT = 20_998;
const LAB_IMAGE = "docker.io/local/busybox:1";

export type Kubernetes = {
  /** May do everything; the tests' own view of the cluster. */
  readonly adminConfig: string;
  /** What agentk holds. */
  readonly agentConfig: string;
  readonly version: string;
  readonly clientVersion: string;
  readonly image: string;
  /** Where the API server writes its audit log; null outside the lab. */
  readonly auditLog: string | null;
  readonly node: string;
};

/** kubectl as admin, straight to the API server; its stdout, or an error with its stderr. */
export async function admin(adminConfig: string, args: readonly string[], options?: KubectlOptions): Promise<string> {
  const { code, stdout, stderr } = await kubectl(adminConfig, args, options);
  if (code !== 0) throw new Error(`kubectl ${args.join(" ")} ended with ${code}: ${stderr}`);
  return stdout;
}

type Node = {
  readonly metadata: { readonly name: string };
  readonly status: { readonly images?: readonly { readonly names?: readonly string[] }[] };
};

/** Looks at the cluster and makes sure that our pod runs in it. */
export async function kubernetes(adminConfig: string): Promise<Kubernetes> {
  const versions = JSON.parse(await admin(adminConfig, ["version", "-o", "json"]));
  const nodes: { readonly items: readonly Node[] } = JSON.parse(
    await admin(adminConfig, ["get", "nodes", "-o", "json"]),
  );
  const node = nodes.items[0];
  if (!node) throw new Error("the cluster of KUBECONFIG has no node");
  const isLab = node.status.images?.some(({ names }) => names?.includes(LAB_IMAGE)) ?? false;
  const image = isLab ? LAB_IMAGE : (process.env.KAS_TEST_IMAGE ?? "docker.io/library/busybox:stable");
  const beside = dirname(adminConfig);
  const agentConfig = join(beside, "agent.kubeconfig");
  const auditLog = join(beside, "log", "audit.log");
  const cluster: Kubernetes = {
    adminConfig,
    agentConfig: existsSync(agentConfig) ? agentConfig : adminConfig,
    version: versions.serverVersion.gitVersion,
    clientVersion: versions.clientVersion.gitVersion,
    image,
    auditLog: existsSync(auditLog) ? auditLog : null,
    node: node.metadata.name,
  };
  await ensurePod(cluster);
  return cluster;
}

const POD_SCRIPT = `mkdir -p /tmp/w; echo hi > /tmp/w/index.html; httpd -p 127.0.0.1:${POD_PORT} -h /tmp/w; i=0; while true; do echo line $i; i=$((i+1)); sleep 1; done`;

/** A pod's manifest that runs without a scheduler and without a service account. */
export const podManifest = (cluster: Kubernetes, name: string, command: string, more: object = {}) => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, namespace: "default", labels: { app: "kas-e2e" } },
  spec: {
    nodeName: cluster.node,
    hostNetwork: true,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    terminationGracePeriodSeconds: 1,
    tolerations: [{ operator: "Exists" }],
    containers: [
      { name: "c", image: cluster.image, imagePullPolicy: "IfNotPresent", command: ["/bin/sh", "-c", command] },
    ],
    ...more,
  },
});

/** One that is on its way out from an earlier run is waited for and made again. */
async function ensurePod(cluster: Kubernetes): Promise<void> {
  const manifest = JSON.stringify(podManifest(cluster, POD, POD_SCRIPT));
  const state = "jsonpath={.metadata.deletionTimestamp}{.status.phase}";
  const look = async () => {
    const { code, stdout } = await kubectl(cluster.adminConfig, ["get", "pod", POD, "-o", state]);
    if (code !== 0) await admin(cluster.adminConfig, ["apply", "-f", "-"], { stdin: manifest });
    return stdout === "Running";
  };
  await until(`pod ${POD} to run`, look, { within: 60_000, every: 500 });
}
