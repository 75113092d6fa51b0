/**
 * The agentk pod of `k8s/example` for a cluster without images, scheduler and controllers: what is shipped stays as it is
 * (account, rights, arguments, volumes, security context), Node and this checkout are mounted from the host. It gets a
 * namespace and cluster-wide names of its own, so that nothing else in the cluster changes.
 */
import { existsSync, readFileSync } from "node:fs";
import { parse } from "yaml";
import type { Kubernetes } from "./kubernetes.ts";
import type { Container, Manifest } from "./manifests.ts";
import { ROOT } from "./run-dir.ts";

export const NAMESPACE = "kas-e2e-agent";

const CLUSTER_WIDE = new Set(["ClusterRole", "ClusterRoleBinding"]);
const ACCOUNT = new Set(["ServiceAccount", ...CLUSTER_WIDE]);
const labels = { app: "kas-e2e" };

/** Account and rights as shipped, under names of our own. */
export function accountAndRights(shipped: readonly Manifest[]): readonly object[] {
  const ownName = (name: string) => `kas-e2e-${name}`;
  return shipped
    .filter(({ kind }) => ACCOUNT.has(kind))
    .map((manifest) => ({
      ...manifest,
      metadata: CLUSTER_WIDE.has(manifest.kind)
        ? { name: ownName(manifest.metadata.name), labels }
        : { name: manifest.metadata.name, namespace: NAMESPACE, labels },
      ...(manifest.subjects && { subjects: manifest.subjects.map((one) => ({ ...one, namespace: NAMESPACE })) }),
      ...(manifest.roleRef && { roleRef: { ...manifest.roleRef, name: ownName(manifest.roleRef.name) } }),
    }));
}

/** The pod, and what it needs besides its account: its token, its settings and the authority of the API server. */
export function agentPod(
  cluster: Kubernetes,
  shipped: readonly Manifest[],
  kasAddress: string,
  token: string,
): readonly object[] {
  const spec = shipped.find(({ kind }) => kind === "Deployment")?.spec?.template?.spec;
  const settings = shipped.find(({ kind }) => kind === "ConfigMap")?.metadata.name;
  const container = spec?.containers[0];
  if (!spec || !container || !settings) throw new Error("k8s/example has no Deployment with a ConfigMap");
  const { server, ca } = apiServer(cluster);
  const meta = (name: string) => ({ name, namespace: NAMESPACE, labels });
  return [
    { apiVersion: "v1", kind: "Secret", metadata: meta("agentk-token"), stringData: { token } },
    { apiVersion: "v1", kind: "ConfigMap", metadata: meta(settings), data: { "kas-address": kasAddress } },
    { apiVersion: "v1", kind: "ConfigMap", metadata: meta("kube-root-ca.crt"), data: { "ca.crt": ca } },
    {
      apiVersion: "v1",
      kind: "Pod",
      metadata: meta("agentk"),
      spec: {
        ...spec,
        nodeName: cluster.node,
        hostNetwork: true,
        terminationGracePeriodSeconds: 5,
        tolerations: [{ operator: "Exists" }],
        containers: [onHost(container, cluster.image, server)],
        volumes: [...(spec.volumes ?? []), ...HOST.map(({ name, from }) => ({ name, hostPath: { path: from } }))],
      },
    },
  ];
}

const HOST = [
  ...["/lib", "/lib64", "/usr/lib"].map((path) => ({ name: path.slice(1).replace("/", "-"), from: path, at: path })),
  { name: "project", from: ROOT, at: "/app" },
].filter(({ from }) => existsSync(from));

/** The container with the image's Node replaced by the host's, and on ports of its own: it shares the host's network. */
function onHost({ readinessProbe, livenessProbe, ...container }: Container, image: string, server: URL): object {
  const [, ...command] = container.command ?? [];
  return {
    ...container,
    image,
    imagePullPolicy: "IfNotPresent",
    command: ["/app/node_modules/.bin/node", ...command],
    args: container.args?.map((arg) =>
      arg === "--observability-listen-address=:8080" ? `${arg.split("=")[0]}=127.0.0.1:0` : arg,
    ),
    ports: [],
    env: [
      ...(container.env ?? []),
      { name: "KUBERNETES_SERVICE_HOST", value: server.hostname },
      { name: "KUBERNETES_SERVICE_PORT", value: server.port },
    ],
    volumeMounts: [
      ...(container.volumeMounts ?? []),
      ...HOST.map(({ name, at }) => ({ name, mountPath: at, readOnly: true })),
    ],
  };
}

/** Where the API server is and which authority signed its certificate, as the admin's kubeconfig says. */
function apiServer(cluster: Kubernetes): { readonly server: URL; readonly ca: string } {
  const { clusters } = parse(readFileSync(cluster.adminConfig, "utf8"));
  const entry = clusters[0].cluster;
  const ca = Buffer.from(String(entry["certificate-authority-data"]), "base64").toString();
  return { server: new URL(String(entry.server)), ca };
}
