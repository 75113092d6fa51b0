/** What a request for an agent would do if it were sent to this node now, and why. Reads, changes nothing. */
import { failure } from "../../actors/failure.ts";
import type { HomeAnswer } from "../../actors/home-index.ts";
import type { AgentId, NodeId } from "../../actors/ids.ts";
import { slotOf } from "../../actors/ring.ts";
import { cached, type RouteCache } from "../../actors/route-cache.ts";
import { ask } from "../runtime/ask.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Lookups } from "./lookups.ts";
import type { RouteExplanation } from "./router.ts";
import type { Surroundings } from "./surroundings.ts";

export type ExplanationOptions = {
  readonly clock: Clock;
  readonly lookups: Lookups;
  readonly cache: RouteCache;
  readonly around: Surroundings;
  readonly members: () => RouteExplanation["members"];
  /** Longer than any lookup. */
  readonly within: number;
};

export async function explain(options: ExplanationOptions, agent: AgentId): Promise<RouteExplanation> {
  const { around, cache, clock } = options;
  const homes: NodeId[] = [];
  for (let home = around.home(agent, 0); home !== null; home = around.home(agent, homes.length)) homes.push(home);
  const answers = await Promise.all(homes.map((home) => askHome(options, home, agent)));
  const known = answers.filter((answer) => answer !== null);
  const own = around.own(agent).map(({ node, connection }) => ({ node, connection, from: "own" }));
  const routes = cached(cache, agent, clock.now(), around.ageing)?.routes ?? [];
  const remembered = routes.map(({ node, connection }) => ({ node, connection, from: "cache" }));
  const indexed = known.flatMap((answer) =>
    answer.routes.map(({ node, connection }) => ({ node, connection, from: "home" })),
  );
  const connections = [...own, ...remembered, ...indexed].filter(
    (a, i, all) => all.findIndex((b) => b.node === a.node && b.connection === a.connection && b.from === a.from) === i,
  );
  return {
    agentId: agent,
    slot: slotOf(agent),
    homes,
    members: options.members(),
    connections,
    missing: [...new Set(known.flatMap((answer) => answer.missing))],
    verdict: verdict(around, agent, connections, known),
  };
}

function askHome(options: ExplanationOptions, home: NodeId, agent: AgentId): Promise<HomeAnswer | null> {
  const { around, lookups, clock, within } = options;
  if (home === around.self) return Promise.resolve(around.askHere(agent, 0));
  const late = failure("deadline", `${home} did not answer`);
  return ask<HomeAnswer | null>(clock, within, late, (answer) => {
    lookups.lookup(home, agent, 0, answer);
    return null;
  }).catch(() => null);
}

function verdict(
  around: Surroundings,
  agent: AgentId,
  connections: RouteExplanation["connections"],
  answers: readonly HomeAnswer[],
): string {
  const [first] = connections;
  if (first?.from === "own") return `It would run over connection ${first.connection} held by this node.`;
  if (first) return `It would go to ${first.node}, connection ${first.connection}, as the ${first.from} says.`;
  if (around.cut) return `It would fail: ${around.cut.reason}.`;
  if (answers.length === 0) return `No home of agent ${agent} answered: every node would be asked, then it would wait.`;
  const proof = answers.every((answer) => answer.mature && answer.seen === null);
  return proof
    ? `It would fail at once: no node has seen agent ${agent} for a while.`
    : `It would wait for agent ${agent} to connect until its deadline.`;
}
