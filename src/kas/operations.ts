/** What an admin may change on a running node: `kasctl drain`, `undrain`, `rebalance` and `disconnect`. */
import type { Millis } from "../../actors/actor.ts";
import { failure } from "../../actors/failure.ts";
import type { AgentId } from "../../actors/ids.ts";
import { askMember } from "../cluster/ask-member.ts";
import type { NodeMethod } from "../cluster/node-service.ts";
import type { Clock } from "../runtime/clock.ts";
import type { ClusterNode } from "./cluster-node.ts";
import type { Drain } from "./drain.ts";
import type { Rebalancer, Rebalancing } from "./rebalancer.ts";

export type OperationsOptions = {
  readonly clock: Clock;
  readonly node: ClusterNode;
  /** Null while this node starts. */
  readonly drain: () => Pick<Drain, "begin" | "stay"> | null;
  readonly rebalancer: Pick<Rebalancer, "now">;
};

export type Operations = ReturnType<typeof createOperations>;

const REBALANCE = "/kas.node.v1/Rebalance";
const ANSWERED_WITHIN: Millis = 2_000;

export function createOperations({ clock, node, drain, rebalancer }: OperationsOptions) {
  const { routing, holder, peers } = node;
  const state = () => ({ node: routing.self, phase: routing.phase });
  return {
    drain(): object {
      drain()?.begin();
      return state();
    },
    undrain(): object {
      drain()?.stay();
      return state();
    },
    /** On every node. */
    async rebalance(): Promise<object> {
      const others = routing.members().filter((m) => m.node !== routing.self && m.state === "alive");
      const asked = others.map((m) => askMember({ clock, peers }, m.node, REBALANCE, null, ANSWERED_WITHIN));
      const own = rebalancer.now();
      const answers = (await Promise.all(asked)) as readonly (Rebalancing | null)[];
      const missing = others.filter((_, n) => answers[n] === null).map((m) => m.node);
      return { nodes: [own, ...answers.filter((answer) => answer !== null)], complete: missing.length === 0, missing };
    },
    /** Here only: its streams break, and it connects anew. */
    disconnect(agentId: AgentId): object {
      const links = [...holder.connections()].filter((connection) => connection.agentId === agentId);
      const reason = failure("node-gone", `an operator disconnected agent ${agentId} from ${routing.self}`);
      for (const { link } of links) link.destroy(reason);
      return { agentId, node: routing.self, disconnected: links.length };
    },
  };
}

/** What other nodes may ask of this one. */
export const rebalanceMethod = (rebalancer: Pick<Rebalancer, "now">): readonly [string, NodeMethod] => [
  REBALANCE,
  (_question, call) => {
    call.answer(rebalancer.now());
    call.end();
    return () => {};
  },
];
