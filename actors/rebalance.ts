/**
 * Whether this node has more than its share of the agents, and how many to ask now to connect anew; who takes them is the
 * balancer's choice. It begins only when the excess has lasted, never exceeds its part of the rate, and rests, longer each
 * time, when asking changes nothing: agents that can only come here are not asked for ever.
 */
import type { Actor, Millis, Step } from "./actor.ts";
import type { NodeId } from "./ids.ts";

export type RebalanceSettings = {
  /** Agents asked by all nodes together. */
  readonly perSecond: number;
  /** How long the excess must last; a balancer needs as long to notice a new node. */
  readonly after: Millis;
};

type Phase =
  | { readonly type: "even" }
  | { readonly type: "over"; readonly since: Millis }
  /** `excess`, and what the emptiest node had (`least`), when `asked` was last 0: what asking has to change. */
  | {
      readonly type: "moving";
      readonly excess: number;
      readonly least: number;
      readonly asked: number;
      readonly lookedAt: Millis;
      readonly credit: number;
    }
  | { readonly type: "resting"; readonly until: Millis };

export type Rebalance = {
  readonly phase: Phase;
  /** How long it rests when asking changes nothing. */
  readonly rest: Millis;
  /** The nodes that share the agents, to see that they changed. */
  readonly nodes: string;
};

export type Share = { readonly node: NodeId; readonly connections: number };

export type RebalanceMessage =
  /** `others`: the members that take agents; null: this node must not ask now. */
  | { readonly type: "look"; readonly own: number; readonly others: readonly Share[] | null }
  /** An operator wants it even now. */
  | { readonly type: "now" };

export type RebalanceEffect = { readonly type: "move"; readonly count: number };

type RebalanceStep = Step<Rebalance, RebalanceEffect>;

const SECOND = 1_000;
const REST_FIRST = 10_000;
const REST_MOST = 3_600_000;
/** So many agents asked to no avail are evidence. */
const EVIDENCE = 10;
const NEVER = Number.POSITIVE_INFINITY;

/** By so much a node differs from the mean when it matters; and by so little when it is done. */
const matters = (mean: number): number => Math.max(2, 0.1 * mean);
const done = (mean: number, nodes: number): number => Math.max(1, (0.06 * mean) / nodes);
const leastOf = (others: readonly Share[]): number => Math.min(...others.map(({ connections }) => connections));

/** When one of many nodes is empty, none of the others is far above the mean: then each that is above it at all gives some. */
function isUneven(over: number, mean: number, others: readonly Share[]): boolean {
  if (over > matters(mean)) return true;
  return over > done(mean, others.length + 1) && leastOf(others) < mean - matters(mean);
}

/** What this node has above the mean. */
export function excess(own: number, others: readonly Share[]): { readonly over: number; readonly mean: number } {
  const mean = others.reduce((sum, { connections }) => sum + connections, own) / (others.length + 1);
  return { over: own - mean, mean };
}

export function createRebalance(settings: RebalanceSettings): Actor<Rebalance, RebalanceMessage, RebalanceEffect> {
  return {
    initial: { phase: { type: "even" }, rest: REST_FIRST, nodes: "" },
    receive(state, message, now) {
      switch (message.type) {
        case "now":
          return [{ ...state, phase: moving(NEVER, 0, now), rest: REST_FIRST }, []];
        case "look":
          return look(state, message.own, message.others, settings, now);
      }
    },
  };
}

/** The first look may ask for a second's worth. */
const moving = (over: number, least: number, now: Millis): Phase => ({
  type: "moving",
  excess: over,
  least,
  asked: 0,
  lookedAt: now - SECOND,
  credit: 0,
});

function look(
  before: Rebalance,
  own: number,
  others: readonly Share[] | null,
  settings: RebalanceSettings,
  now: Millis,
): RebalanceStep {
  if (others === null) return [before.phase.type === "over" ? { ...before, phase: { type: "even" } } : before, []];
  const nodes = others
    .map(({ node }) => node)
    .sort()
    .join();
  const state = nodes === before.nodes ? before : changed(before, nodes);
  const { over, mean } = excess(own, others);
  const { phase } = state;
  switch (phase.type) {
    case "even":
      return [isUneven(over, mean, others) ? { ...state, phase: { type: "over", since: now } } : state, []];
    case "over":
      if (!isUneven(over, mean, others)) return [{ ...state, phase: { type: "even" } }, []];
      if (now - phase.since < settings.after) return [state, []];
      return ask({ ...state, phase: moving(over, leastOf(others), now) }, over, others, settings, now);
    case "moving":
      if (over <= done(mean, others.length + 1)) return [{ ...state, phase: { type: "even" }, rest: REST_FIRST }, []];
      return ask(state, over, others, settings, now);
    case "resting":
      return [now < phase.until ? state : { ...state, phase: { type: "even" } }, []];
  }
}

/** A node came or went: whatever was learnt before is void, and its agents need a moment to settle. */
function changed(state: Rebalance, nodes: string): Rebalance {
  return { ...state, nodes, rest: REST_FIRST, phase: state.phase.type === "moving" ? state.phase : { type: "even" } };
}

function ask(
  state: Rebalance,
  over: number,
  others: readonly Share[],
  settings: RebalanceSettings,
  now: Millis,
): RebalanceStep {
  const { phase } = state;
  if (phase.type !== "moving") return [state, []];
  const least = leastOf(others);
  const tried = phase.excess === NEVER ? { ...phase, excess: over, least } : phase;
  const evident = tried.asked >= Math.max(EVIDENCE, tried.excess);
  if (evident && over > 0.9 * tried.excess && least <= tried.least) {
    const rest = Math.min(REST_MOST, state.rest * 2);
    return [{ ...state, rest, phase: { type: "resting", until: now + state.rest } }, []];
  }
  const since = evident ? { ...tried, asked: 0, excess: over, least } : tried;
  const share = settings.perSecond / (others.length + 1);
  const credit = Math.min(share + 1, phase.credit + (share * (now - phase.lookedAt)) / SECOND);
  const count = Math.min(Math.floor(credit), Math.ceil(over / 2));
  const next: Phase = { ...since, asked: since.asked + count, lookedAt: now, credit: credit - count };
  return [{ ...state, phase: next }, count > 0 ? [{ type: "move", count }] : []];
}
