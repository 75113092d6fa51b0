/** Bugs to plant: each replaces one piece of source, and must be caught by the simulation or by the tests it names. */

export type Piece = { readonly file: string; readonly find: string; readonly replace: string };

export type Mutant = {
  /** What the protocol would do wrong. */
  readonly bug: string;
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** More pieces of the same bug, where two guards stand against it. */
  readonly also?: readonly Piece[];
  /** Unit tests that must notice it, besides the simulation. */
  readonly tests: readonly string[];
};

const REQUEST = [
  "test/actors/request-resolution.test.ts",
  "test/actors/request-attempts.test.ts",
  "test/actors/request-deadline.test.ts",
  "test/properties/request.test.ts",
];
const CLUSTER = ["test/cluster/routing-cluster.test.ts", "test/cluster/routing-plane.test.ts"];
const CHANNEL = ["test/actors/channel.test.ts", "test/properties/channel.test.ts"];
const LINK = ["test/actors/link.test.ts", "test/actors/link-stream.test.ts", "test/properties/link.test.ts"];
const MEMBERS = ["test/actors/membership.test.ts"];
const AWAY = ["test/cluster/nats-away.test.ts", "test/cluster/relayed-messenger.test.ts"];

export const MUTANTS: readonly Mutant[] = [
  {
    bug: "a POST is sent again after its OPEN left, without proof",
    file: "actors/request-attempt.ts",
    find: "known.spec.idempotent && replayable && !state.delivered",
    replace: "replayable && !state.delivered",
    tests: REQUEST,
  },
  {
    bug: "a request is sent again after part of an answer was delivered",
    file: "actors/request-attempt.ts",
    find: "idempotent && replayable && !state.delivered",
    replace: "idempotent && replayable",
    tests: REQUEST,
  },
  {
    bug: "a request is sent again although its body is not whole any more",
    file: "actors/request-attempt.ts",
    find: "idempotent && replayable && !state.delivered",
    replace: "idempotent && !state.delivered",
    tests: REQUEST,
  },
  {
    bug: "an outcome of an earlier attempt counts for the current one",
    file: "actors/request-attempt.ts",
    find: 'state.type !== "attempting" || state.known.attempts !== number',
    replace: 'state.type !== "attempting"',
    tests: REQUEST,
  },
  {
    bug: "what refused is not excluded from the next attempt",
    file: "actors/request-attempt.ts",
    find: "return { ...known, seed, failure, excluded };",
    replace: "return { ...known, seed, failure };",
    tests: REQUEST,
  },
  {
    bug: "a refusal counts as an unknown outcome",
    file: "actors/request-attempt.ts",
    find: "return refused(state, reported.failure, reported.dial, now);",
    replace: "return lost(state, reported.failure, false, now);",
    tests: REQUEST,
  },
  {
    bug: "a request fails fast on an incomplete index",
    file: "actors/request-resolve.ts",
    find: "state.absent && answer.mature && long",
    replace: "state.absent && long",
    tests: REQUEST,
  },
  {
    bug: "a request fails fast for an agent that was seen a moment ago",
    file: "actors/request-resolve.ts",
    find: "state.absent && answer.mature && long",
    replace: "state.absent && answer.mature",
    tests: REQUEST,
  },
  {
    bug: "a parked request never looks again",
    file: "actors/request-resolve.ts",
    find: "  return resolve(state.known);",
    replace: "  return [state, []];",
    tests: REQUEST,
  },
  {
    bug: "a deadline passes unnoticed",
    file: "actors/request.ts",
    find: '  return fail(state, deadlineFailure(state.known, state.type === "attempting"));',
    replace: "  return [state, []];",
    tests: REQUEST,
  },
  {
    bug: "members that a home misses are not asked",
    file: "actors/request-resolve.ts",
    find: "  const nodes = state.answers === 0",
    replace: "  if (state.answers > 0) return settle(known, state.routes, now);\n  const nodes = state.answers === 0",
    tests: [...REQUEST, ...CLUSTER],
  },
  {
    bug: "an OPEN is handed to a dead connection",
    file: "actors/connection.ts",
    find: ".filter((other) => other !== connection);",
    replace: ".filter(() => true);",
    tests: ["test/actors/connection.test.ts"],
  },
  {
    bug: "an OPEN is handed to a link of an old generation",
    file: "actors/connection.ts",
    find: "if (connection.superseded || exclude.includes",
    replace: "if (exclude.includes",
    tests: ["test/actors/connection.test.ts", ...CLUSTER],
  },
  {
    bug: "a draining connection is chosen like any other",
    file: "actors/connection.ts",
    find: "  if (a.draining !== b.draining) return b.draining;\n",
    replace: "",
    tests: ["test/actors/connection.test.ts"],
  },
  {
    bug: "a holder hands on what it does not hold",
    file: "actors/connection.ts",
    find: "  for (const connection of state.byAgent.get(agent) ?? []) {\n    active",
    replace: "  for (const connection of state.byAgent.get(agent) ?? state.byId.values()) {\n    active",
    tests: ["test/actors/connection.test.ts", ...CLUSTER],
  },
  {
    bug: "a pod supersedes the other pods of its agent",
    file: "actors/channel.ts",
    find: "if (newer.agent !== older.agent || newer.instance !== older.instance) return false;",
    replace: "if (newer.agent !== older.agent) return false;",
    tests: ["test/actors/connection.test.ts", ...CHANNEL],
  },
  {
    bug: "a new process does not supersede the old one of its pod",
    file: "actors/channel.ts",
    find: "return newer.since > older.since || (newer.since",
    replace: "return false && newer.since > older.since || (newer.since",
    tests: ["test/actors/connection.test.ts", ...CHANNEL, ...CLUSTER],
  },
  {
    bug: "a home hands out superseded entries",
    file: "actors/home-index.ts",
    find: "    if (state.superseded.has(held)) continue;\n",
    replace: "",
    tests: CHANNEL,
  },
  {
    bug: "no digest is sent",
    file: "actors/registrar.ts",
    find: 'return [{ ...state, seed }, [{ type: "send", message }, again]];',
    replace: "return [{ ...state, seed }, [again]];",
    tests: CHANNEL,
  },
  {
    bug: "the epoch of a channel starts anew",
    file: "src/cluster/registration.ts",
    find: "createRegistrar(settings, ++this.#epoch, seed())",
    replace: "createRegistrar(settings, 1, seed())",
    tests: CLUSTER,
  },
  {
    bug: "a delta is applied whatever its place",
    file: "actors/home-channel.ts",
    find: "channel.position.epoch !== delta.epoch || channel.position.seq + 1 !== delta.seq",
    replace: "false",
    tests: CHANNEL,
  },
  {
    bug: "an old snapshot replaces a newer one",
    file: "actors/home-channel.ts",
    find: "if (!isAfter(snap, channel.position)) return",
    replace: "if (false) return",
    tests: CHANNEL,
  },
  {
    bug: "what was not acknowledged is not told again",
    file: "actors/registrar.ts",
    find: ": flush({ ...state, dirty: true, retries: state.retries + 1 }, epoch, settings, now);",
    replace: ": [state, []];",
    tests: CHANNEL,
  },
  {
    bug: "an acknowledgement of another epoch counts",
    file: "actors/registrar.ts",
    find: "if (position.epoch !== epoch || position.seq > state.seq",
    replace: "if (position.seq > state.seq",
    tests: CHANNEL,
  },
  {
    bug: "a home never tells those who wait",
    file: "actors/home-channel.ts",
    find: "if (until > now) out.push",
    replace: "if (until > now && false) out.push",
    tests: [...CHANNEL, ...CLUSTER],
  },
  {
    bug: "a watch never ends",
    file: "actors/home.ts",
    find: "if (until <= now) watchers.delete(by);",
    replace: "if (until <= now && false) watchers.delete(by);",
    tests: [...CHANNEL, ...CLUSTER],
  },
  {
    bug: "the entries of a member that is gone stay",
    file: "actors/home.ts",
    find: "if (!members.has(holder) && holder !== self) next =",
    replace: "if (!members.has(holder) && holder !== self && false) next =",
    tests: CHANNEL,
  },
  {
    bug: "an incarnation that was replaced is believed again",
    file: "actors/membership.ts",
    find: "  if (incarnationOf(from) <= newest) {",
    replace: "  if (incarnationOf(from) < 0) {",
    tests: MEMBERS,
  },
  {
    bug: "a node with a newer process of its own name goes on",
    file: "actors/membership.ts",
    find: '  if (newer && heartbeat.state !== "joining") return',
    replace: "  if (newer && false) return",
    tests: MEMBERS,
  },
  {
    bug: "the view is not frozen without a bus",
    file: "actors/suspicion.ts",
    find: "return !state.connected || (state.isolatedSince",
    replace: "return (state.isolatedSince",
    tests: [...MEMBERS, ...AWAY],
  },
  {
    bug: "a member that was lost while the view was frozen never comes back by its link",
    file: "actors/suspicion.ts",
    find: 'if (peer.state !== "suspect" && peer.state !== "lost") return',
    replace: 'if (peer.state !== "suspect") return',
    tests: [...MEMBERS, ...AWAY],
  },
  {
    bug: "a stranger whose link is heard leaves the older process of its name among the members",
    file: "actors/suspicion.ts",
    find: 'if (verdict !== "gone" && verdict !== "lost") replaceOlder(state, node);',
    replace: "",
    tests: ["test/actors/introduction.test.ts"],
  },
  {
    bug: "messages do not go over links",
    file: "src/cluster/relayed-messenger.ts",
    find: "    const link = this.#isOnBus(to) ? null : this.#options.linkTo(to);\n    if (link) this.#tell",
    replace: "    const link = null as CtlLink | null;\n    if (link) this.#tell",
    tests: AWAY,
  },
  {
    bug: "questions do not go over links",
    file: "src/cluster/relayed-messenger.ts",
    find: "    const link = this.#isOnBus(to) ? null : linkTo(to);\n",
    replace: "    const link = null as CtlLink | null;\n",
    tests: AWAY,
  },
  {
    bug: "an answer of anybody is believed",
    file: "src/cluster/relayed-messenger.ts",
    find: "if (this.#waiting.get(subject)?.of === sender) ",
    replace: "",
    tests: AWAY,
  },
  {
    bug: "a node that is off the bus stays a home",
    file: "actors/membership.ts",
    find: "heardAt: nats ? now : before.heardAt",
    replace: "heardAt: now",
    tests: AWAY,
  },
  {
    bug: "an envelope is taken twice",
    file: "src/bus/replay.ts",
    find: 'else if (isSet(seen.bits, count)) return "replay";',
    replace: "",
    tests: ["test/bus/envelopes.test.ts", ...AWAY],
  },
  {
    bug: "homes depend on the order in which members were heard",
    file: "actors/ring.ts",
    find: "[...new Set(members)].sort()",
    replace: "[...new Set(members)]",
    tests: ["test/properties/ring.test.ts"],
  },
  {
    bug: "`unprocessed` is dropped on its way",
    file: "actors/link-receive.ts",
    find: "unprocessed: reset.unprocessed && s.own && !s.accepted",
    replace: "unprocessed: false",
    tests: LINK,
  },
  {
    bug: "`unprocessed` counts after ACCEPT",
    file: "actors/link-receive.ts",
    find: "unprocessed: reset.unprocessed && s.own && !s.accepted",
    replace: "unprocessed: reset.unprocessed && s.own",
    tests: LINK,
  },
  {
    bug: "CLOSE is ignored",
    file: "actors/link-number.ts",
    find: "if (s.own && s.id > last) abort(link, s, reset);",
    replace: "",
    tests: LINK,
  },
  {
    bug: "a stream is taken after CLOSE",
    file: "actors/link-receive.ts",
    find: "  if (link.closeSent) {",
    replace: "  if (link.closeSent && false) {",
    tests: LINK,
  },
  {
    bug: "a stream id is used twice",
    file: "actors/link-pack.ts",
    find: "  link.nextId += 2;",
    replace: "  if (link.nextId % 8 > 2) link.nextId += 2;",
    tests: [...LINK, "test/link/multiplexer.test.ts"],
  },
  {
    bug: "RESET overtakes the OPEN of its own stream",
    file: "actors/link-send.ts",
    find: 'if (s.id > 0 && link.phase !== "closed") link.resets',
    replace: 'if (link.phase !== "closed") link.resets',
    tests: LINK,
  },
  {
    bug: "what waits of a stream that was reset still leaves",
    file: "actors/link.ts",
    find: "  leave(s);\n",
    replace: "",
    tests: LINK,
  },
  {
    bug: "lent credit is not given back when a stream is reset",
    file: "actors/link.ts",
    find: "  releaseWindow(s.window, link.now);\n",
    replace: "",
    tests: [...LINK, "test/actors/credit.test.ts", "test/actors/link-flow.test.ts"],
  },
  {
    bug: "more DATA is sent than there is credit for",
    file: "actors/link-pack.ts",
    find: "  s.credit -= length;\n",
    replace: "",
    tests: LINK,
  },
];
