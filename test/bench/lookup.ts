/**
 * The first request for an agent at a node that is no home of it: how many NATS messages it takes and how much longer it is than
 * the next one, which takes none. And the memory of an index of 100,000 agents.
 */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { Child } from "../e2e/support/child.ts";
import { fetchText } from "../e2e/support/http.ts";
import { NODE } from "../e2e/support/kas-node.ts";
import { freePort } from "../e2e/support/port.ts";
import { ROOT } from "../e2e/support/run-dir.ts";
import { agentToken, SERVICES, TOKENS } from "../e2e/support/settings.ts";
import { startNatsServer } from "../support/nats-server.ts";
import { atMost, type Bench, type Finding, type Findings, row, size } from "./support/row.ts";
import { Stage } from "./support/stage.ts";
import { median } from "./support/statistics.ts";

const FIRST = 1_000;
const INDEX_PROMISED = 30;
const INDEXED = 100_000;
/** Question and answer; half a message more for what else nodes say meanwhile. */
const ROUND_TRIP = 2.5;

export async function* lookup({ quick }: Bench): Findings {
  yield* cold(quick ? 100 : 300);
  yield* index();
}

async function* cold(count: number): Findings {
  const ids = Array.from({ length: count }, (_, i) => FIRST + i);
  const monitor = await freePort();
  await using nats = await startNatsServer(["-m", String(monitor)]);
  await using stage = await Stage.start(null, { nodes: 3, natsUrl: nats.url, users: users(ids) });
  const script = join(ROOT, "test", "e2e", "support", "many-agents.ts");
  const args = [
    script,
    stage.cluster.node(1).address("agent"),
    `${FIRST}`,
    `${count}`,
    `http://${stage.upstream.address}`,
  ];
  await using fleet = new Child({ name: "fleet", command: NODE, args, dir: stage.dir });
  await fleet.line("all agents", ({ msg }) => msg === "all", 60_000);
  await sleep(1_000);
  const strange = (
    await Promise.all(ids.map(async (id) => ((await homes(stage, id)).includes("kas-0") ? [] : [id])))
  ).flat();
  const messages = async (): Promise<number> =>
    Number(JSON.parse((await fetchText(`http://127.0.0.1:${monitor}/varz`)).text).in_msgs);
  const [first = 0, ...others] = strange;
  await ask(stage, first);
  await sleep(500);
  const pass = async () => {
    const [before, begun, times] = [await messages(), performance.now(), [] as number[]];
    for (const id of others) times.push(await ask(stage, id));
    return { millis: median(times), told: (await messages()) - before, took: performance.now() - begun };
  };
  const asked = await pass();
  await sleep(1_000);
  const [quietBefore, quietFrom] = [await messages(), performance.now()];
  await sleep(2_000);
  const background = ((await messages()) - quietBefore) / (performance.now() - quietFrom);
  yield* coldRow(others.length, asked, await pass(), background);
}

type Pass = { readonly millis: number; readonly told: number; readonly took: number };

function* coldRow(count: number, asked: Pass, again: Pass, background: number): Generator<Finding> {
  const each = ({ told, took }: Pass) => Math.max(0, told - background * took) / count;
  const [messages, warm] = [each(asked), each(again)];
  yield row({
    name: "cold lookup, the ingress is no home of the agent",
    target: "one NATS round trip (2 messages), warm none",
    measured: `${messages.toFixed(1)} messages each of ${count}, p50 ${asked.millis.toFixed(2)} ms; warm ${warm.toFixed(1)} messages, p50 ${again.millis.toFixed(2)} ms`,
    ratio: `${(asked.millis - again.millis).toFixed(2)} ms longer`,
    reached: messages <= ROUND_TRIP && warm <= 0.5 ? 1 : atMost(Math.max(messages, warm), 1),
  });
}

const users = (ids: readonly number[]) => ({
  agents: ids.map((id) => ({ id, name: `agent-${id}`, project_id: 10, tokens: [agentToken(id)] })),
  users: [
    {
      username: "root",
      tokens: [TOKENS.admin],
      access: ids.map((agent_id) => ({ agent_id, as: "agent", services: [...SERVICES] })),
    },
  ],
});

/** Asked of the holder, so that the ingress learns nothing by it. */
async function homes(stage: Stage, id: number): Promise<readonly string[]> {
  const { text } = await stage.cluster.node(1).observe(`/api/v1/route/${id}`);
  const found: readonly string[] = JSON.parse(text).homes;
  return found.map((home) => home.split(".")[0] ?? "");
}

/** Milliseconds of one request. */
async function ask(stage: Stage, id: number): Promise<number> {
  const { url, headers } = stage.routed("/", id);
  const begun = performance.now();
  const { status } = await fetchText(url, { headers });
  if (status !== 200) throw new Error(`agent ${id} was answered with ${status}`);
  return performance.now() - begun;
}

/** The simulation measures it: entries of three holders, told by the protocol, on the heap of one process. */
async function* index(): Findings {
  const script = join(ROOT, "test", "simulation", "measure.ts");
  const { stdout } = await promisify(execFile)(NODE, ["--expose-gc", script]);
  const [, found] = /100,000 entries of three holders in an index: ([\d.]+) MB/.exec(stdout) ?? [];
  const megabytes = Number(found);
  yield row({
    name: "index of 100,000 agents of three holders",
    target: `≤ ${INDEX_PROMISED} MB`,
    measured: `${megabytes.toFixed(1)} MB of heap`,
    reached: atMost(megabytes, INDEX_PROMISED),
  });
  const each = (megabytes * 1e6) / INDEXED;
  yield size("1 GiB of heap, index entries", `${Math.floor(2 ** 30 / each)} agents`, `${each.toFixed(0)} bytes each`);
}
