/**
 * How to reach the API server and as whom: from a kubeconfig or, in a pod, from its service account. Everything is checked
 * here, so that a faulty configuration is known at the start and not at the first request.
 */
import { readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { failed } from "../failed.ts";
import type { Impersonation } from "../link/messages.ts";

/** What undici's connector is given. */
export type ClientTls = {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
  readonly servername?: string;
  readonly rejectUnauthorized?: boolean;
};

export type ApiServer = {
  readonly url: URL;
  readonly tls: ClientTls;
  readonly credential:
    | { readonly type: "none" }
    /** A whole Authorization value. */
    | { readonly type: "fixed"; readonly value: string }
    | { readonly type: "token-file"; readonly path: string };
  readonly impersonates: Impersonation | null;
};

const cluster = z.looseObject({
  server: z.string(),
  "certificate-authority": z.string().optional(),
  "certificate-authority-data": z.string().optional(),
  "insecure-skip-tls-verify": z.boolean().optional(),
  "tls-server-name": z.string().optional(),
});
const user = z.looseObject({
  "client-certificate": z.string().optional(),
  "client-certificate-data": z.string().optional(),
  "client-key": z.string().optional(),
  "client-key-data": z.string().optional(),
  token: z.string().optional(),
  tokenFile: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  as: z.string().optional(),
  "as-uid": z.string().optional(),
  "as-groups": z.array(z.string()).optional(),
  "as-user-extra": z.record(z.string(), z.array(z.string())).optional(),
  exec: z.unknown().optional(),
  "auth-provider": z.unknown().optional(),
});
const kubeconfig = z.looseObject({
  "current-context": z.string().optional(),
  clusters: z.array(z.looseObject({ name: z.string(), cluster })).default([]),
  contexts: z
    .array(
      z.looseObject({
        name: z.string(),
        context: z.looseObject({ cluster: z.string(), user: z.string().default("") }),
      }),
    )
    .default([]),
  users: z.array(z.looseObject({ name: z.string(), user: user.nullish() })).default([]),
});
type Cluster = z.infer<typeof cluster>;
type User = z.infer<typeof user>;

/** Throws `invalid` with what is wrong and where. */
export function readKubeconfig(path: string, context: string | null): ApiServer {
  const parsed = kubeconfig.safeParse(parseYaml(path));
  if (!parsed.success) throw failed("invalid", `kubeconfig ${path} is faulty:\n${z.prettifyError(parsed.error)}`);
  const file = parsed.data;
  const name = context ?? file["current-context"] ?? "";
  const chosen = named(file.contexts, name, `context "${name}"`, path).context;
  const to = named(file.clusters, chosen.cluster, `cluster "${chosen.cluster}"`, path).cluster;
  const as = chosen.user === "" ? {} : (named(file.users, chosen.user, `user "${chosen.user}"`, path).user ?? {});
  const folder = dirname(resolve(path));
  if (as.exec !== undefined || as["auth-provider"] !== undefined) {
    throw failed(
      "invalid",
      `user "${chosen.user}" of kubeconfig ${path} gets its credential from a plugin (exec or auth-provider), which agentk does not run: give it a token, a tokenFile or a client certificate`,
    );
  }
  if (!URL.canParse(to.server)) throw failed("invalid", `kubeconfig ${path}: server "${to.server}" is not a URL`);
  return {
    url: new URL(to.server),
    tls: tlsOf(to, as, folder, path),
    credential: credentialOf(as, folder),
    impersonates: impersonationOf(as),
  };
}

const SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";

/** The service account of the pod that agentk runs in. */
export function inCluster(env: Readonly<Record<string, string | undefined>>, folder = SERVICE_ACCOUNT): ApiServer {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = env;
  if (!host || !port) {
    throw failed("invalid", "agentk does not run in a pod and has no kubeconfig: give --kubeconfig FILE");
  }
  return {
    url: new URL(`https://${host.includes(":") ? `[${host}]` : host}:${port}`),
    tls: { ca: fileOf(join(folder, "ca.crt")) },
    credential: { type: "token-file", path: join(folder, "token") },
    impersonates: null,
  };
}

function parseYaml(path: string): unknown {
  const text = fileOf(path).toString();
  try {
    return parse(text);
  } catch (cause) {
    throw failed("invalid", `kubeconfig ${path} is not YAML: ${cause instanceof Error ? cause.message : ""}`, cause);
  }
}

function named<Entry extends { readonly name: string }>(
  entries: readonly Entry[],
  name: string,
  what: string,
  path: string,
): Entry {
  const found = entries.find((entry) => entry.name === name);
  if (found) return found;
  const known = entries.map((entry) => entry.name).join(", ") || "nothing of the kind";
  throw failed("invalid", `kubeconfig ${path} has no ${what}; it has ${known}`);
}

function tlsOf(to: Cluster, as: User, folder: string, path: string): ClientTls {
  const ca = dataOrFile(to["certificate-authority-data"], to["certificate-authority"], folder);
  const cert = dataOrFile(as["client-certificate-data"], as["client-certificate"], folder);
  const key = dataOrFile(as["client-key-data"], as["client-key"], folder);
  if ((cert === null) !== (key === null)) {
    throw failed("invalid", `kubeconfig ${path}: a client certificate and its key belong together: give both`);
  }
  return {
    ...(ca && { ca }),
    ...(cert && key && { cert, key }),
    ...(to["tls-server-name"] && { servername: to["tls-server-name"] }),
    ...(to["insecure-skip-tls-verify"] && { rejectUnauthorized: false }),
  };
}

function credentialOf(as: User, folder: string): ApiServer["credential"] {
  // The file wins over the token beside it, as in client-go: that one is only its first value.
  if (as.tokenFile) return { type: "token-file", path: resolve(folder, as.tokenFile) };
  if (as.token) return { type: "fixed", value: `Bearer ${as.token}` };
  if (as.username === undefined) return { type: "none" };
  const pair = Buffer.from(`${as.username}:${as.password ?? ""}`).toString("base64");
  return { type: "fixed", value: `Basic ${pair}` };
}

function impersonationOf(as: User): Impersonation | null {
  if (!as.as) return null;
  const extra = Object.entries(as["as-user-extra"] ?? {});
  return { user: as.as, uid: as["as-uid"] ?? "", groups: as["as-groups"] ?? [], extra };
}

function dataOrFile(base64: string | undefined, path: string | undefined, folder: string): Buffer | null {
  if (base64) return Buffer.from(base64, "base64");
  return path ? fileOf(resolve(folder, path)) : null;
}

function fileOf(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw failed("invalid", `cannot read ${path}: check that it exists and may be read`, cause);
  }
}
