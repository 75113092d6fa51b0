/** The manifests of `k8s/`, as kustomize renders them, and as much of their shape as tests look at. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { ROOT } from "./run-dir.ts";

export type Rule = {
  readonly apiGroups: readonly string[];
  readonly verbs: readonly string[];
  readonly resources?: readonly string[];
  readonly resourceNames?: readonly string[];
};
type Subject = { readonly kind: string; readonly name: string; readonly namespace?: string };
type Named = { readonly name: string };
type Probe = { readonly httpGet?: { readonly path: string }; readonly tcpSocket?: object };
type Resources = Readonly<Record<string, string>>;
export type Container = Named & {
  readonly image: string;
  readonly args?: readonly string[];
  readonly command?: readonly string[];
  readonly env?: readonly (Named & { readonly value?: string })[];
  readonly volumeMounts?: readonly (Named & { readonly mountPath: string; readonly subPathExpr?: string })[];
  readonly securityContext?: object;
  readonly readinessProbe?: Probe;
  readonly livenessProbe?: Probe;
  readonly resources?: { readonly requests?: Resources; readonly limits?: Resources };
};
export type PodSpec = {
  readonly serviceAccountName?: string;
  readonly automountServiceAccountToken?: boolean;
  readonly terminationGracePeriodSeconds?: number;
  readonly containers: readonly Container[];
  readonly volumes?: readonly Named[];
  readonly securityContext?: object;
};
export type Manifest = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly data?: Readonly<Record<string, string>>;
  readonly rules?: readonly Rule[];
  readonly subjects?: readonly Subject[];
  readonly roleRef?: { readonly apiGroup: string; readonly kind: string; readonly name: string };
  readonly spec?: { readonly template?: { readonly spec: PodSpec } };
};

/** What `kubectl kustomize` makes of a folder of `k8s/`. */
export function rendered(folder: string): readonly Manifest[] {
  const text = execFileSync("kubectl", ["kustomize", join(ROOT, "k8s", folder)], { encoding: "utf8" });
  return parseAllDocuments(text).flatMap((document) => document.toJS() ?? []);
}

/** A file in a ConfigMap of a folder. */
export function fileIn(folder: string, name: string): string {
  const text = rendered(folder).find(({ data }) => data?.[name] !== undefined)?.data?.[name];
  if (text === undefined) throw new Error(`no ConfigMap of k8s/${folder} has a ${name}`);
  return text;
}
