/**
 * What the demo asks of the cluster: every request says through which node, to whom, whether the answer was right and, from
 * its trace, which hop took how long.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Gateway } from "../gen/kas/gateway/v1/gateway_pb.ts";
import type { Api, Prometheus } from "./agents.ts";
import type { RunningNode } from "./cluster.ts";
import type { Collector } from "./collector.ts";
import { firstLine, get, type HttpsAnswer, type Target } from "./https-call.ts";
import { aligned, millis, type Printer } from "./print.ts";
import type { Rails } from "./rails.ts";
import { AGENTS, type AgentSeed, type Secrets } from "./settings.ts";
import { type Account, accountOf } from "./span.ts";

export type Scene = {
  readonly nodes: readonly RunningNode[];
  readonly rails: ReadonlyMap<string, Rails>;
  readonly secrets: Secrets;
  readonly api: Api;
  readonly collector: Collector;
  readonly prometheus: Prometheus | null;
};

/** One request, asked and judged. */
type Result = {
  readonly what: string;
  readonly ingress: string;
  readonly agent: string;
  /** What the agent reached. */
  readonly target: string;
  /** "" when it was right. */
  readonly wrong: string;
  readonly said: string;
  readonly traceId: string;
};

/** How many there were, and the names of those that did not come back right. */
export type Tally = { readonly asked: number; readonly wrong: readonly string[] };

const SPANS_WITHIN = 3_000;

export async function askAll(scene: Scene, print: Printer): Promise<Tally> {
  const results: Result[] = [];
  const ask = async (title: string, requests: readonly (() => Promise<Result>)[]) => {
    print.heading(title);
    const done: Result[] = [];
    for (const request of requests) done.push(await request());
    await report(scene, done, print);
    results.push(...done);
  };
  const { nodes } = scene;
  const each = nodes.flatMap((node) => AGENTS.map((agent) => [node, agent] as const));
  await ask(
    "As Rails: who is connected? (gRPC Gateway.ListAgents)",
    nodes.map((node) => () => listAgents(scene, node)),
  );
  await ask(
    "As kubectl: GET /version through every node to every agent (each time is that hop alone)",
    each.map(
      ([node, agent]) =>
        () =>
          version(scene, node, agent),
    ),
  );
  await ask(
    "The same again: routes are known now",
    each.map(
      ([node, agent]) =>
        () =>
          version(scene, node, agent),
    ),
  );
  await ask(
    "As Rails: GET /api (gRPC Gateway.Request)",
    nodes.map((node, i) => () => gatewayRequest(scene, node, AGENTS[i % AGENTS.length] ?? AGENTS[0])),
  );
  if (scene.prometheus) {
    await scene.prometheus.up;
    await ask(
      "As a dashboard: the service prometheus, query up",
      nodes.map((node, i) => () => prometheus(scene, node, AGENTS[i % AGENTS.length] ?? AGENTS[0])),
    );
  }
  await ask(
    "As kubectl: a watch of namespaces, until its first event",
    nodes.map((node) => () => watch(scene, node, AGENTS[0])),
  );
  return { asked: results.length, wrong: results.filter(({ wrong }) => wrong !== "").map(({ what }) => what) };
}

async function report({ collector }: Scene, results: readonly Result[], print: Printer): Promise<void> {
  const accounts = await Promise.all(results.map((result) => accountWithin(collector, result)));
  const rows = aligned(results.map((result, i) => [...columnsOf(result, accounts[i] ?? null), result.said]));
  for (const [i, row] of rows.entries()) {
    const wrong = results[i]?.wrong ?? "";
    print.checked(wrong === "", wrong === "" ? row : `${row}\n      ${wrong}`);
  }
}

async function accountWithin(collector: Collector, { traceId, ...names }: Result): Promise<Account | null> {
  if (traceId === "") return null;
  const deadline = performance.now() + SPANS_WITHIN;
  for (;;) {
    const account = accountOf(collector.trace(traceId), names);
    if (account || performance.now() > deadline) return account;
    await sleep(20);
  }
}

/** `kas-3 1.2 ms`, `→ kas-1 0.8 ms`, `→ agent-1 and its API 3.0 ms`, `= 5.0 ms`; a hop that was not needed stays empty. */
export function columnsOf(
  { ingress, agent }: Pick<Result, "ingress" | "agent">,
  account: Account | null,
): readonly string[] {
  if (!account) return [ingress, ...(agent ? ["", `→ ${agent}`, ""] : [])];
  const said = account.hops.map(({ who, millis: took }) => `${who} ${millis(took).padStart(7)}`);
  const [first = "", ...rest] = said;
  const peer = account.hops.length > 2 && account.hops[1]?.who.startsWith("kas-");
  const hops = (peer ? rest : ["", ...rest]).map((hop) => hop && `→ ${hop}`);
  return [first, ...hops, `= ${millis(account.millis).padStart(7)}`];
}

const targetOf = ({ secrets }: Scene, node: RunningNode, { id }: AgentSeed): Target => ({
  address: node.addresses.kubernetes_api,
  certificate: secrets.certificate,
  credential: `pat:${id}:${secrets.userToken}`,
});

/** Turns what went wrong on the way into a result as well. */
async function judged(
  base: Pick<Result, "what" | "ingress" | "agent" | "target">,
  ask: () => Promise<Pick<Result, "wrong" | "said" | "traceId">>,
): Promise<Result> {
  try {
    return { ...base, ...(await ask()) };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { ...base, wrong: why, said: "failed", traceId: "" };
  }
}

const excerpt = ({ status, failureCode, body }: HttpsAnswer): string =>
  `answered ${status}${failureCode && ` (${failureCode})`}: ${body.slice(0, 300).trim()}`;

function version(scene: Scene, node: RunningNode, agent: AgentSeed): Promise<Result> {
  const what = `GET /version through ${node.name} to ${agent.name}`;
  return judged({ what, ingress: node.name, agent: agent.name, target: "API" }, async () => {
    const answer = await get(targetOf(scene, node, agent), "/version");
    const found = answer.status === 200 ? JSON.parse(answer.body).gitVersion : undefined;
    const right = typeof found === "string" && found !== "";
    return { wrong: right ? "" : excerpt(answer), said: `${answer.status} ${found ?? ""}`, traceId: answer.traceId };
  });
}

function listAgents({ rails }: Scene, node: RunningNode): Promise<Result> {
  return judged({ what: `ListAgents of ${node.name}`, ingress: node.name, agent: "", target: "API" }, async () => {
    const answer = await rails.get(node.name)?.call(Gateway.method.listAgents, {});
    if (!answer) return { wrong: "there is no client for this node", said: "", traceId: "" };
    const { agents, complete } = answer.message;
    const list = agents.map((agent) => `${agent.name} at ${agent.node.split(".")[0]}`).toSorted();
    const right = complete && AGENTS.every(({ name, dials }) => list.includes(`${name} at ${dials}`));
    const said = `${millis(answer.millis).padStart(7)}  ${list.join(", ")}`;
    return { wrong: right ? "" : `expected both agents; complete: ${complete}`, said, traceId: "" };
  });
}

function gatewayRequest({ rails }: Scene, node: RunningNode, agent: AgentSeed): Promise<Result> {
  const what = `Gateway.Request through ${node.name} to ${agent.name}`;
  return judged({ what, ingress: node.name, agent: agent.name, target: "API" }, async () => {
    const request = { agentId: BigInt(agent.id), method: "GET", path: "/api" };
    const answer = await rails.get(node.name)?.call(Gateway.method.request, request);
    if (!answer) return { wrong: "there is no client for this node", said: "", traceId: "" };
    const { status, body } = answer.message;
    const text = new TextDecoder().decode(body);
    const right = status === 200 && JSON.parse(text).kind === "APIVersions";
    return {
      wrong: right ? "" : `answered ${status}: ${text.slice(0, 300)}`,
      said: `${status}`,
      traceId: answer.traceId,
    };
  });
}

function prometheus(scene: Scene, node: RunningNode, agent: AgentSeed): Promise<Result> {
  const what = `the service prometheus through ${node.name} to ${agent.name}`;
  return judged({ what, ingress: node.name, agent: agent.name, target: "prometheus" }, async () => {
    const answer = await get(targetOf(scene, node, agent), "/services/prometheus/api/v1/query?query=up");
    const series: { metric: { node: string }; value: [number, string] }[] =
      answer.status === 200 ? JSON.parse(answer.body).data.result : [];
    const up = series.filter(({ value }) => value[1] === "1").map(({ metric }) => metric.node);
    const right = scene.nodes.every(({ name }) => up.includes(name));
    const said = `${answer.status} ${up.length} nodes up`;
    return { wrong: right ? "" : excerpt(answer), said, traceId: answer.traceId };
  });
}

function watch(scene: Scene, node: RunningNode, agent: AgentSeed): Promise<Result> {
  const what = `a watch through ${node.name} to ${agent.name}`;
  return judged({ what, ingress: node.name, agent: agent.name, target: "API" }, async () => {
    const path = "/api/v1/namespaces?watch=true&timeoutSeconds=5";
    const { status, line, millis: took } = await firstLine(targetOf(scene, node, agent), path);
    const said = (text: string) => `${millis(took).padStart(7)}  ${status} ${text}`;
    if (status === 403 && !scene.api.own)
      return { wrong: "", said: said("this cluster does not allow it"), traceId: "" };
    const event = status === 200 ? JSON.parse(line) : {};
    const right = event.type === "ADDED";
    const wrong = right ? "" : `answered ${status}: ${line.slice(0, 300)}`;
    return { wrong, said: said(`${event.type} ${event.object?.metadata?.name}`), traceId: "" };
  });
}
