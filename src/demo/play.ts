/** The demo from its first line to its last: start everything, ask everything, then stay until told to end. */
import { chooseApi, type Prometheus, startAgent, startPrometheus } from "./agents.ts";
import { allReady, type RunningNode, startNats, startNodes } from "./cluster.ts";
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
  const scene = await start(stage, print, lookAround(env), inMemory);
  const tally = await askAll(scene, print);
  print.line();
  print.line(`${verdict(tally)}, ${((performance.now() - began) / 1000).toFixed(1)} s since the start`);
  if (!once) {
    invite(scene, print, stage.write("kubeconfig", kubeconfig(proxies(scene.nodes), scene.secrets)));
    const processes = new Set(scene.nodes.map(({ child }) => child));
    showRequests(scene.collector, print, processes.size === 1);
    for (const child of processes) {
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

async function start(stage: Stage, print: Printer, machine: Machine, inMemory: boolean): Promise<Scene> {
  const collector = stage.use(await Collector.listen());
  const env = { ...machine.env, ...collector.env };
  const { secrets, yamlOf } = await writeSettings(stage);
  const nats = await startBus(stage, print, machine, inMemory);
  const how = nats === null ? "together in one process" : "a process each";
  const files = NODES.map((name) => stage.write(`${name}.yaml`, yamlOf(name, nats)));
  const { nodes, prometheus } = await print.step(
    `three kas nodes, ${how}`,
    async () => {
      const nodes = await startNodes(stage, files, nats === null, env);
      // It needs some seconds, so it begins while they join.
      const prometheus = machine.prometheus
        ? await startPrometheus(stage, machine.prometheus, nodes, machine.env)
        : null;
      await allReady(nodes);
      return { nodes, prometheus };
    },
    () => `three kas nodes, ${how}: ${NODES.join(", ")} have joined`,
  );
  sayPrometheus(print, prometheus);
  const api = await chooseApi(stage, machine);
  print.checked(true, `the Kubernetes API of both agents: ${api.title}`);
  await print.step(
    "two agentk, a process each",
    () => Promise.all(AGENTS.map((agent) => startAgent(stage, agent, { api, secrets, nodes, prometheus, env }))),
    () => `two agentk, a process each: ${AGENTS.map(({ name, dials }) => `${name} at ${dials}`).join(", ")}`,
  );
  const rails = new Map(nodes.map(({ name, addresses }) => [name, new Rails(addresses.api, secrets.api)]));
  return { nodes, rails, secrets, api, collector, prometheus };
}

/** Gives the URL of NATS, or null for the bus in memory. */
async function startBus(
  stage: Stage,
  print: Printer,
  { natsServer, env }: Machine,
  inMemory: boolean,
): Promise<string | null> {
  if (natsServer === null || inMemory) {
    print.checked(true, `the bus in memory instead of NATS: ${inMemory ? "--in-memory" : "no nats-server found"}`);
    if (!inMemory) print.line("      for a real one, as root: apt-get install -y nats-server");
    return null;
  }
  const { url } = await print.step(
    "a real NATS",
    () => startNats(stage, natsServer, env),
    ({ version, url }) => `a real NATS: nats-server ${version} at ${url}`,
  );
  return url;
}

function sayPrometheus(print: Printer, prometheus: Prometheus | null): void {
  if (prometheus) print.checked(true, `a real Prometheus at ${prometheus.url}, scraping the three nodes`);
  else print.checked(true, "no Prometheus found, so it is not queried; as root: apt-get install -y prometheus");
}

const proxies = (nodes: readonly RunningNode[]) =>
  new Map(nodes.map(({ name, addresses }) => [name, `https://${addresses.kubernetes_api}`] as const));

function invite({ nodes, api, prometheus }: Scene, print: Printer, config: string): void {
  print.heading("Try it (the current context goes in at kas-3, to agent-1)");
  print.line(`  kubectl --kubeconfig ${config} get ${api.own ? "pods" : "namespaces"}`);
  if (api.own) print.line(`  kubectl --kubeconfig ${config} logs --follow web-1-of-cluster-1`);
  print.line(`  kubectl --kubeconfig ${config} config get-contexts`);
  print.line();
  for (const { name, child, addresses } of nodes) {
    print.line(`  ${name}  https://${addresses.kubernetes_api}  Kubernetes API proxy, pid ${child.pid}`);
    print.line(`         http://${addresses.observability}/metrics and /readiness`);
    print.line(`         gRPC for Rails ${addresses.api}, for agents ${addresses.agent}`);
  }
  if (prometheus) print.line(`  Prometheus  ${prometheus.url}`);
  print.heading("Each request through the proxy is told here. Ctrl-C ends everything.");
}
