/** The three nodes: a process each around a real NATS where there is one, else together in one process. */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Child } from "./child.ts";
import type { Machine } from "./machine.ts";
import { NODES, type NodeName } from "./settings.ts";
import type { Stage } from "./stage.ts";

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const LISTENERS = ["agent", "api", "kubernetes_api", "observability"] as const;
type Listener = (typeof LISTENERS)[number];

export type RunningNode = {
  readonly name: NodeName;
  readonly child: Child;
  /** `host:port` as the node printed it. */
  readonly addresses: Readonly<Record<Listener, string>>;
};

/** For a program of ours. */
export const nodeProgram = (name: string, file: string, args: readonly string[], env: Machine["env"]) => ({
  name,
  command: process.execPath,
  args: [join(ROOT, file), ...args],
  env,
});

const CLIENTS = /Listening for client connections on [^ ]*:(\d+)/;
const VERSION = /[Vv]ersion:? +v?(\S+)/;

export type Nats = { readonly url: string; readonly version: string };

export async function startNats(stage: Stage, command: string, env: Machine["env"]): Promise<Nats> {
  const args = ["-a", "127.0.0.1", "-p", "-1"];
  const child = stage.spawn({ name: "nats-server", command, args, env });
  const port = await child.said("its port", (line) => CLIENTS.exec(line)?.[1] ?? null);
  await child.said("readiness", (line) => (line.includes("Server is ready") ? true : null));
  const version = await child.said("its version", (line) => VERSION.exec(line)?.[1] ?? null, 1_000);
  return { url: `nats://127.0.0.1:${port}`, version };
}

/** One configuration file each, in the order of `NODES`. Resolves when all listen. */
export async function startNodes(
  stage: Stage,
  files: readonly string[],
  together: boolean,
  env: Machine["env"],
): Promise<readonly RunningNode[]> {
  const all = together ? stage.spawn(nodeProgram("kas-1, kas-2, kas-3", "src/demo/one-process.ts", files, env)) : null;
  const starts = NODES.map((name, index) => {
    const args = ["serve", "--configuration-file", files[index] ?? ""];
    return { name, child: all ?? stage.spawn(nodeProgram(name, "bin/kas.js", args, env)) };
  });
  return await Promise.all(
    starts.map(async ({ name, child }) => {
      const at = (listener: Listener) => child.said(`its listener ${listener}`, listening(listener, all ? name : null));
      const [agent, api, kubernetes_api, observability] = [
        await at("agent"),
        await at("api"),
        await at("kubernetes_api"),
        await at("observability"),
      ];
      return { name, child, addresses: { agent, api, kubernetes_api, observability } };
    }),
  );
}

/** Resolves when every node has joined the cluster. */
export async function allReady(nodes: readonly RunningNode[]): Promise<void> {
  const ready = async (address: string) => {
    const answer = await fetch(`http://${address}/readiness`);
    await answer.arrayBuffer();
    return answer.ok ? true : null;
  };
  await Promise.all(
    nodes.map(({ child, addresses }) => child.until("readiness", () => ready(addresses.observability))),
  );
}

const listening = (listener: Listener, node: string | null) => (line: string) => {
  if (!line.startsWith("{")) return null;
  const said = JSON.parse(line);
  const matches = said.msg === "listening" && said.listener === listener && (node === null || said.node === node);
  return matches ? String(said.address) : null;
};
