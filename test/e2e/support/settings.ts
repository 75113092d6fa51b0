/** The configuration files a node under test is started with: as an operator would write them, every port 0. */
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { stringify } from "yaml";
import type { Certificates } from "./certificates.ts";
import type { RunDir } from "./run-dir.ts";

export type Tree = { readonly [key: string]: unknown };

export const AGENTS = [1, 2, 3, 4, 5, 6] as const;
export const PREFIX = "/k8s-proxy/";
export const agentToken = (id: number) => `agent-${id}-token`;

/** Tokens of the default static file. */
export const TOKENS = {
  /** A user who acts as the agent, on every agent, with every service. */
  admin: "admin-token",
  /** A user impersonated as `alice` of group `devs`. */
  alice: "alice-token",
  /** A user without any service. */
  bob: "bob-token",
  job: "job-token",
  operator: "sre-token",
} as const;

export const SERVICES = ["upstream", "prometheus", "dead"] as const;

export const staticFile = (): Tree => ({
  agents: AGENTS.map((id) => ({ id, name: `agent-${id}`, project_id: 10, tokens: [agentToken(id)] })),
  users: [
    {
      username: "root",
      tokens: [TOKENS.admin],
      access: AGENTS.map((agent_id) => ({ agent_id, as: "agent", services: [...SERVICES] })),
    },
    {
      username: "alice",
      tokens: [TOKENS.alice],
      access: AGENTS.map((agent_id) => ({ agent_id, as: "user", groups: ["devs"], services: [] })),
    },
    { username: "bob", tokens: [TOKENS.bob], access: [{ agent_id: 1, as: "agent", services: [] }] },
  ],
  jobs: [{ token: TOKENS.job, agent_ids: [1], as: "agent", services: [] }],
  operators: [{ name: "sre", tokens: [TOKENS.operator], role: "admin" }],
});

/** Merges trees; arrays and plain values of `over` win. */
export function merge(base: Tree, over: Tree): Tree {
  const merged: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const before = merged[key];
    merged[key] = isTree(before) && isTree(value) ? merge(before, value) : value;
  }
  return merged;
}

const isTree = (value: unknown): value is Tree => typeof value === "object" && value !== null && !Array.isArray(value);

export type Secrets = { readonly api: string; readonly apiFile: string; readonly privateFile: string };

/** Writes the two secret files; `api` is the secret in base64 as Rails reads it. */
export function writeSecrets(dir: RunDir): Secrets {
  const [api, peers] = [randomBytes(32).toString("base64"), randomBytes(32).toString("base64")];
  const files = { apiFile: dir.file("api-secret"), privateFile: dir.file("private-api-secret") };
  writeFileSync(files.apiFile, api, { mode: 0o600 });
  writeFileSync(files.privateFile, peers, { mode: 0o600 });
  return { api, ...files };
}

export type NodeSettings = {
  readonly name: string;
  readonly cluster: string;
  readonly natsUrl: string | null;
  readonly secrets: Secrets;
  readonly staticFile: string;
  /** Listeners that get TLS. */
  readonly tls: "none" | "proxy" | "all";
  readonly certificates: Certificates | null;
  readonly more: Tree;
};

const ADDRESS = "127.0.0.1:0";

export function nodeYaml(settings: NodeSettings): string {
  const { name, cluster, natsUrl, secrets, tls, certificates } = settings;
  const pair = certificates ? { certificate_file: certificates.certFile, key_file: certificates.keyFile } : {};
  const all = tls === "all" ? pair : {};
  const proxy = tls === "none" ? {} : pair;
  const peerCa = tls === "all" && certificates ? { ca_certificate_file: certificates.caFile } : {};
  const base: Tree = {
    node: { name },
    cluster: { name: cluster },
    agent: {
      listen: { address: ADDRESS, websocket: true, listen_grace_period: "1s", ...all },
      kubernetes_api: { listen: { address: ADDRESS, listen_grace_period: "1s", ...proxy }, url_path_prefix: PREFIX },
    },
    api: { listen: { address: ADDRESS, authentication_secret_file: secrets.apiFile, ...all } },
    observability: { listen: { address: ADDRESS, ...all }, logging: { level: "info" } },
    authentication: { static_file: settings.staticFile },
    drain_timeout: "5s",
  };
  const shared: Tree = natsUrl
    ? {
        nats: { servers: [natsUrl] },
        private_api: {
          listen: { address: ADDRESS, authentication_secret_file: secrets.privateFile, ...all, ...peerCa },
        },
      }
    : {};
  return stringify(merge(merge(base, shared), settings.more));
}
