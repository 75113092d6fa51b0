/** The two agents, and what they reach: the cluster of KUBECONFIG or an API of the demo's own, and a Prometheus. */
import { createServer } from "node:net";
import { stringify } from "yaml";
import { failed } from "../failed.ts";
import { nodeProgram, type RunningNode } from "./cluster.ts";
import type { Machine } from "./machine.ts";
import { OwnApi } from "./own-api.ts";
import { AGENTS, type AgentSeed, type Secrets } from "./settings.ts";
import type { Stage } from "./stage.ts";

/** Kubeconfig of each agent, and what to call the API. */
export type Api = { readonly title: string; readonly own: boolean; readonly kubeconfigOf: (id: number) => string };

export async function chooseApi(stage: Stage, machine: Machine): Promise<Api> {
  const { kubeconfig } = machine;
  if (kubeconfig !== null) return { title: `KUBECONFIG ${kubeconfig}`, own: false, kubeconfigOf: () => kubeconfig };
  const files = new Map<number, string>();
  for (const { id } of AGENTS) {
    const api = stage.use(await OwnApi.listen(`cluster-${id}`));
    files.set(id, stage.write(`cluster-${id}.kubeconfig`, ownKubeconfig(api.url)));
  }
  const kubeconfigOf = (id: number) => files.get(id) ?? "";
  return { title: "the demo's own small API (no KUBECONFIG)", own: true, kubeconfigOf };
}

const ownKubeconfig = (server: string): string =>
  stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "demo", cluster: { server } }],
    contexts: [{ name: "demo", context: { cluster: "demo", user: "" } }],
    "current-context": "demo",
  });

export type AgentSettings = {
  readonly api: Api;
  readonly secrets: Secrets;
  readonly nodes: readonly RunningNode[];
  readonly prometheus: Prometheus | null;
  readonly env: Machine["env"];
};

export async function startAgent(stage: Stage, { id, name, dials }: AgentSeed, settings: AgentSettings): Promise<void> {
  const { api, secrets, nodes, prometheus, env } = settings;
  const node = nodes.find((each) => each.name === dials);
  const args = [
    `--kas-address=grpc://${node?.addresses.agent}`,
    `--token-file=${stage.write(`${name}.token`, secrets.agentToken(id))}`,
    `--kubeconfig=${api.kubeconfigOf(id)}`,
    ...(prometheus ? [`--service=prometheus=${prometheus.url}`] : []),
  ];
  const child = stage.spawn(nodeProgram(`agentk of ${name}`, "bin/agentk.js", args, env));
  await child.said("its connection to kas", (line) => (line.includes('"msg":"connected"') ? true : null));
}

/** A port that was free a moment ago: Prometheus cannot say which one it took. */
async function freePort(): Promise<number> {
  const server = createServer();
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", resolve);
  await promise;
  const address = server.address();
  await new Promise((closed) => server.close(closed));
  if (!address || typeof address === "string") throw failed("internal", "this machine gave no port");
  return address.port;
}

const SCRAPE = "1s";

/** `up` settles when it has seen all nodes up, which takes it some seconds. */
export type Prometheus = { readonly url: string; readonly up: Promise<void> };

/** A real Prometheus that watches the nodes. */
export async function startPrometheus(
  stage: Stage,
  command: string,
  nodes: readonly RunningNode[],
  env: Machine["env"],
): Promise<Prometheus> {
  const address = `127.0.0.1:${await freePort()}`;
  const targets = nodes.map(({ name, addresses }) => ({ targets: [addresses.observability], labels: { node: name } }));
  const config = {
    global: { scrape_interval: SCRAPE },
    scrape_configs: [{ job_name: "kas", static_configs: targets }],
  };
  const args = [
    `--config.file=${stage.write("prometheus.yaml", stringify(config))}`,
    `--storage.tsdb.path=${stage.path("prometheus")}`,
    `--web.listen-address=${address}`,
  ];
  const child = stage.spawn({ name: "prometheus", command, args, env });
  const up = child.until("the first look at all nodes", async () => {
    const answer = await fetch(`http://${address}/api/v1/query?query=${encodeURIComponent("sum(up)")}`);
    const { data } = JSON.parse(await answer.text());
    return data.result[0]?.value[1] === String(nodes.length) ? undefined : null;
  });
  up.catch(() => {});
  return { url: `http://${address}`, up };
}
