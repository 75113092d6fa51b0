/** The demo from its first line to its last: start everything, ask everything, then stay until told to end. */
import { chooseApi, startAgent, startPrometheus } from "./agents.ts";
import { type RunningNode, startNats, startNodes } from "./cluster.ts";
import { Collector } from "./collector.ts";
import { showRequests } from "./live-account.ts";
import { lookAround, type Machine } from "./machine.ts";
import type { Printer } from "./print.ts";
import { Rails } from "./rails.ts";
import { askAll, type Scene, type Tally } from "./requests.ts";
import { AGENTS, kubeconfig, NODES, writeSettings } from "./settings.ts";
import type { Stage } from "./stage.ts";

export type PlayOptions = {
  readonly once: boolean;
  readonly inMemory: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
};

/** Resolves to the exit code. Without `once`, not before `told`. */
export async function play(
  stage: Stage,
  print: Printer,
  { once, inMemory, env }: PlayOptions,
  told: Promise<unknown>,
): Promise<number> {
  const began = performance.now();
  print.line("kas: a cluster of three nodes, two agents, and requests through every node");
  print.heading("Starting");
  const machine = lookAround(env);
  const scene = await start(stage, print, machine, inMemory ? null : machine.natsServer);
  const tally = await askAll(scene, print);
  print.line();
  print.line(`${verdict(tally)}, ${((performance.now() - began) / 1000).toFixed(1)} s since the start`);
  if (!once) {
    const config = stage.write("kubeconfig", kubeconfig(proxies(scene.nodes), scene.secrets));
    invite(scene, print, config);
    showRequests(scene.collector, print);
    for (const { child } of scene.nodes) {
      void child.ended.then((how) => stage.down || print.line(`    ${child.name} ${how}`));
    }
    await told;
  }
  return tally.wrong.length === 0 ? 0 : 1;
}

const verdict = ({ asked, wrong }: Tally): string =>
  wrong.length === 0
    ? `all ${asked} requests came back right`
    : `${wrong.length} of ${asked} requests did not come back right: ${wrong.join("; ")}`;

async function start(stage: Stage, print: Printer, machine: Machine, natsServer: string | null): Promise<Scene> {
  const collector = stage.use(await Collector.listen());
  const env = { ...machine.env, ...collector.env };
  const { secrets, yamlOf } = await writeSettings(stage);
  const nodes = await startCluster(stage, print, { natsServer, installed: machine.natsServer !== null, yamlOf, env });
  const api = await chooseApi(stage, machine);
  print.checked(true, `the Kubernetes API of both agents: ${api.title}`);
  const prometheus = await startWatching(stage, print, machine, nodes);
  await print.step(
    "two agentk, each in a process of its own",
    () => Promise.all(AGENTS.map((agent) => startAgent(stage, agent, { api, secrets, nodes, prometheus, env }))),
    () => `two agentk: ${AGENTS.map(({ name, dials }) => `${name} dialled ${dials}`).join(", ")}`,
  );
  const rails = new Map(nodes.map(({ name, addresses }) => [name, new Rails(addresses.api, secrets.api)]));
  return { nodes, rails, secrets, api, collector, prometheus };
}

type ClusterSettings = {
  /** null: in one process, on the bus in memory. */
  readonly natsServer: string | null;
  readonly installed: boolean;
  readonly yamlOf: Awaited<ReturnType<typeof writeSettings>>["yamlOf"];
  readonly env: Machine["env"];
};

async function startCluster(
  stage: Stage,
  print: Printer,
  { natsServer, installed, yamlOf, env }: ClusterSettings,
): Promise<readonly RunningNode[]> {
  const nats =
    natsServer === null
      ? null
      : await print.step(
          "a real NATS",
          () => startNats(stage, natsServer, env),
          ({ version, url }) => `a real NATS: nats-server ${version} at ${url}`,
        );
  if (nats === null) {
    print.checked(true, "no NATS: the nodes share one process and the bus in its memory");
    if (!installed) print.line("      for a real one, as root: apt-get install -y nats-server");
  }
  const how = nats === null ? "together in one process" : "each in a process of its own";
  const files = NODES.map((name) => stage.write(`${name}.yaml`, yamlOf(name, nats?.url ?? null)));
  return await print.step(
    `three kas nodes, ${how}`,
    () => startNodes(stage, files, nats === null, env),
    (nodes) => `three kas nodes, ${how}: ${nodes.map(({ name }) => name).join(", ")} have joined`,
  );
}

async function startWatching(
  stage: Stage,
  print: Printer,
  { prometheus, env }: Machine,
  nodes: readonly RunningNode[],
): Promise<string | null> {
  if (prometheus === null) {
    print.checked(true, "no Prometheus here, so its query is left out");
    print.line("      for a real one, as root: apt-get install -y prometheus");
    return null;
  }
  return await print.step(
    "a real Prometheus that scrapes the three nodes",
    () => startPrometheus(stage, prometheus, nodes, env),
    (url) => `a real Prometheus that scrapes the three nodes, at ${url}`,
  );
}

const proxies = (nodes: readonly RunningNode[]) =>
  new Map(nodes.map(({ name, addresses }) => [name, `https://${addresses.kubernetes_api}`] as const));

function invite({ nodes, api, prometheus }: Scene, print: Printer, config: string): void {
  print.heading("Try it");
  const what = api.own ? "pods" : "namespaces";
  print.line(`  kubectl --kubeconfig ${config} get ${what}`);
  if (api.own) print.line(`  kubectl --kubeconfig ${config} logs --follow web-1-of-cluster-1`);
  print.line(`  kubectl --kubeconfig ${config} config get-contexts    # every agent through every node`);
  print.line();
  for (const { name, child, addresses } of nodes) {
    print.line(`  ${name}  pid ${child.pid}  https://${addresses.kubernetes_api}  Kubernetes API proxy`);
    print.line(`         gRPC ${addresses.api} for Rails, ${addresses.agent} for agents`);
    print.line(`         http://${addresses.observability}/metrics and /readiness`);
  }
  if (prometheus !== null) print.line(`  Prometheus  ${prometheus}/graph?g0.expr=kas_agents_connected`);
  print.line();
  print.line("Each request through a node is told here with its hops. Ctrl-C ends everything.");
}
