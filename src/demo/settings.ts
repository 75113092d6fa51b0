/** The files a demo cluster is started with, as an operator would write them: every port 0, secrets and certificate new. */
import { randomBytes } from "node:crypto";
import { generate } from "selfsigned";
import { stringify } from "yaml";
import type { Stage } from "./stage.ts";

export const NODES = ["kas-1", "kas-2", "kas-3"] as const;
export type NodeName = (typeof NODES)[number];

/** Where each agent connects; so the third node holds none and routes everything. */
export const AGENTS = [
  { id: 1, name: "agent-1", dials: "kas-1" },
  { id: 2, name: "agent-2", dials: "kas-2" },
] as const;
export type AgentSeed = (typeof AGENTS)[number];

export type Secrets = {
  /** Signs what Rails sends. */
  readonly api: Uint8Array;
  readonly agentToken: (id: number) => string;
  readonly userToken: string;
  /** PEM; signs itself. */
  readonly certificate: string;
};

const ADDRESS = "127.0.0.1:0";

/** Writes everything but the nodes' own files; `yamlOf` makes those. */
export async function writeSettings(stage: Stage) {
  const api = randomBytes(32);
  const seed = randomBytes(12).toString("hex");
  const userToken = `demo-${randomBytes(12).toString("hex")}`;
  const { cert, private: key } = await selfSigned();
  const secrets: Secrets = { api, agentToken: (id) => `agent-${id}-${seed}`, userToken, certificate: cert };
  const files = {
    api: stage.write("api-secret", api.toString("base64")),
    peers: stage.write("private-api-secret", randomBytes(32).toString("base64")),
    certificate: stage.write("certificate.pem", cert),
    key: stage.write("certificate.key", key),
    people: stage.write("agents.yaml", stringify(people(secrets))),
  };
  return { secrets, yamlOf: (name: NodeName, nats: string | null) => stringify(nodeSettings(name, nats, files)) };
}

function people({ agentToken, userToken }: Secrets) {
  return {
    agents: AGENTS.map(({ id, name }) => ({ id, name, project_id: 1, tokens: [agentToken(id)] })),
    users: [
      {
        username: "demo",
        tokens: [userToken],
        access: AGENTS.map(({ id }) => ({ agent_id: id, as: "agent", services: ["prometheus"] })),
      },
    ],
  };
}

type Files = Readonly<Record<"api" | "peers" | "certificate" | "key" | "people", string>>;

function nodeSettings(name: NodeName, nats: string | null, files: Files) {
  const listen = { address: ADDRESS, listen_grace_period: "0s" };
  const tls = { certificate_file: files.certificate, key_file: files.key };
  return {
    node: { name },
    cluster: { name: "demo" },
    ...(nats !== null && { nats: { servers: [nats] } }),
    agent: { listen, kubernetes_api: { listen: { ...listen, ...tls } } },
    api: { listen: { ...listen, authentication_secret_file: files.api } },
    private_api: { listen: { ...listen, authentication_secret_file: files.peers } },
    observability: { listen },
    authentication: { static_file: files.people },
    drain_timeout: "1s",
  };
}

const selfSigned = () =>
  generate([{ name: "commonName", value: "kas demo" }], {
    keyType: "ec",
    algorithm: "sha256",
    extensions: [
      { name: "basicConstraints", cA: true, critical: true },
      { name: "extKeyUsage", serverAuth: true },
      {
        name: "subjectAltName",
        altNames: [
          { type: 2, value: "localhost" },
          { type: 7, ip: "127.0.0.1" },
        ],
      },
    ],
  });

/** For kubectl: one context for each way in, `agent-1-through-kas-3` and so on; the current one takes a hop between nodes. */
export function kubeconfig(servers: ReadonlyMap<NodeName, string>, { certificate, userToken }: Secrets): string {
  const authority = Buffer.from(certificate).toString("base64");
  return stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [...servers].map(([name, server]) => ({
      name,
      cluster: { server, "certificate-authority-data": authority },
    })),
    users: AGENTS.map(({ id, name }) => ({ name, user: { token: `pat:${id}:${userToken}` } })),
    contexts: NODES.flatMap((node) =>
      AGENTS.map(({ name }) => ({ name: `${name}-through-${node}`, context: { cluster: node, user: name } })),
    ),
    "current-context": "agent-1-through-kas-3",
  });
}
