/**
 * An agentk pod for a cluster without images: the shipped manifest's account, rights, environment and security context, with
 * Node and this checkout mounted from the host. Objects get names of their own, so that nothing else in the cluster changes.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse, parseAllDocuments } from "yaml";
import type { Kubernetes } from "./kubernetes.ts";
import { ROOT } from "./run-dir.ts";

/** The plain manifest that we ship. */
export const MANIFEST = join(ROOT, "k8s", "agentk.yaml");
export const NAMESPACE = "kas-e2e-agent";

type Rule = {
  readonly verbs: readonly string[];
  readonly resources?: readonly string[];
  readonly resourceNames?: readonly string[];
};
type Subject = { readonly kind: string; readonly name: string; readonly namespace?: string };
type Container = { readonly env?: readonly object[]; readonly securityContext?: object };
export type Manifest = {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly rules?: readonly Rule[];
  readonly subjects?: readonly Subject[];
  readonly roleRef?: { readonly apiGroup: string; readonly kind: string; readonly name: string };
  readonly spec?: {
    readonly template: {
      readonly spec: {
        readonly serviceAccountName: string;
        readonly containers: readonly Container[];
        readonly securityContext?: object;
      };
    };
  };
};

/** Whom the agent may impersonate, by resource. */
export type Impersonable = Readonly<Record<string, readonly string[]>>;

export function shippedManifests(): readonly Manifest[] {
  if (!existsSync(MANIFEST)) throw new Error(`${MANIFEST} is missing: it is what this test applies`);
  return parseAllDocuments(readFileSync(MANIFEST, "utf8")).flatMap((document) => document.toJS() ?? []);
}

const CLUSTER_WIDE = new Set(["ClusterRole", "ClusterRoleBinding"]);
const KEPT = new Set(["ServiceAccount", "Role", "RoleBinding", ...CLUSTER_WIDE]);
const ownName = (kind: string, name: string) => (CLUSTER_WIDE.has(kind) ? `kas-e2e-${name}` : name);

/** Account and rights as shipped, in our namespace, with these names in the rules for impersonation. */
export function accountAndRights(shipped: readonly Manifest[], impersonable: Impersonable): readonly object[] {
  return shipped
    .filter(({ kind }) => KEPT.has(kind))
    .map((manifest) => ({
      ...manifest,
      metadata: {
        name: ownName(manifest.kind, manifest.metadata.name),
        ...(!CLUSTER_WIDE.has(manifest.kind) && { namespace: NAMESPACE }),
        labels: { app: "kas-e2e" },
      },
      ...(manifest.rules && { rules: manifest.rules.map((rule) => named(rule, impersonable)) }),
      ...(manifest.subjects && {
        subjects: manifest.subjects.map((subject) => ({ ...subject, namespace: NAMESPACE })),
      }),
      ...(manifest.roleRef && {
        roleRef: { ...manifest.roleRef, name: ownName(manifest.roleRef.kind, manifest.roleRef.name) },
      }),
    }));
}

function named(rule: Rule, impersonable: Impersonable): Rule {
  const names = rule.verbs.includes("impersonate")
    ? rule.resources?.flatMap((resource) => impersonable[resource] ?? [])
    : [];
  return names && names.length > 0 ? { ...rule, resourceNames: names } : rule;
}

const HOST_FOLDERS = ["/lib", "/lib64", "/usr/lib"];
const TOKENS_PATH = "/var/run/secrets/kubernetes.io/serviceaccount";

/** The pod, the secret with the agent's token and the authority of the API server. */
export function agentPod(
  cluster: Kubernetes,
  shipped: readonly Manifest[],
  kasAddress: string,
  token: string,
): readonly object[] {
  const template = shipped.find(({ kind }) => kind === "Deployment")?.spec?.template.spec;
  if (!template) throw new Error(`${MANIFEST} has no Deployment`);
  const container = template.containers[0];
  const { server, ca } = apiServer(cluster);
  const hostPaths = [...HOST_FOLDERS.filter((path) => existsSync(path)), ROOT];
  const at = (path: string) => (path === ROOT ? "/project" : path);
  const meta = (name: string) => ({ name, namespace: NAMESPACE, labels: { app: "kas-e2e" } });
  return [
    { apiVersion: "v1", kind: "Secret", metadata: meta("agentk-token"), stringData: { token } },
    { apiVersion: "v1", kind: "ConfigMap", metadata: meta("api-server-ca"), data: { "ca.crt": ca } },
    {
      apiVersion: "v1",
      kind: "Pod",
      metadata: meta("agentk"),
      spec: {
        nodeName: cluster.node,
        hostNetwork: true,
        serviceAccountName: template.serviceAccountName,
        automountServiceAccountToken: false,
        enableServiceLinks: false,
        terminationGracePeriodSeconds: 5,
        tolerations: [{ operator: "Exists" }],
        ...(template.securityContext && { securityContext: template.securityContext }),
        containers: [
          {
            name: "agentk",
            image: cluster.image,
            imagePullPolicy: "IfNotPresent",
            command: ["/project/node_modules/.bin/node", "/project/bin/agentk.js"],
            args: [
              `--kas-address=${kasAddress}`,
              "--token-file=/etc/agentk/token",
              "--observability-listen-address=127.0.0.1:0",
            ],
            env: [
              ...(container?.env ?? []),
              { name: "KUBERNETES_SERVICE_HOST", value: server.hostname },
              { name: "KUBERNETES_SERVICE_PORT", value: server.port },
            ],
            ...(container?.securityContext && { securityContext: container.securityContext }),
            volumeMounts: [
              ...hostPaths.map((path, index) => ({ name: `host-${index}`, mountPath: at(path), readOnly: true })),
              { name: "token", mountPath: "/etc/agentk", readOnly: true },
              { name: "account", mountPath: TOKENS_PATH, readOnly: true },
            ],
          },
        ],
        volumes: [
          ...hostPaths.map((path, index) => ({ name: `host-${index}`, hostPath: { path } })),
          { name: "token", secret: { secretName: "agentk-token" } },
          { name: "account", projected: { sources: accountSources() } },
        ],
      },
    },
  ];
}

const accountSources = () => [
  { serviceAccountToken: { path: "token", expirationSeconds: 3600 } },
  { configMap: { name: "api-server-ca", items: [{ key: "ca.crt", path: "ca.crt" }] } },
  { downwardAPI: { items: [{ path: "namespace", fieldRef: { fieldPath: "metadata.namespace" } }] } },
];

/** Where the API server is and which authority signed its certificate, as the admin's kubeconfig says. */
function apiServer(cluster: Kubernetes): { readonly server: URL; readonly ca: string } {
  const { clusters } = parse(readFileSync(cluster.adminConfig, "utf8"));
  const entry = clusters[0].cluster;
  const ca = Buffer.from(String(entry["certificate-authority-data"]), "base64").toString();
  return { server: new URL(String(entry.server)), ca };
}
