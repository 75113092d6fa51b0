/**
 * One watcher of the whole cluster: our own changes and one stream from every member, followed as members come and go.
 * It tells one snapshot first; from then on changes, and a `resync` of a member whenever some of its changes may be lost.
 */
import type { Millis } from "../../actors/actor.ts";
import type { NodeId } from "../../actors/ids.ts";
import type { Clock } from "../runtime/clock.ts";
import { byKey, fromParts, type ListQuestion, WATCH } from "./agent-list.ts";
import type { Holder } from "./holder.ts";
import { askNode } from "./node-service.ts";
import type { Peers } from "./peers.ts";
import type { AgentChange, AgentFilter, ConnectedAgent } from "./router.ts";
import type { Routing } from "./routing.ts";

export type DirectoryOptions = {
  readonly routing: Routing;
  readonly holder: Holder;
  readonly peers: Peers;
  readonly clock: Clock;
};

/** The first snapshot waits this long for members; those that are late come as `resync`. */
const SNAPSHOT_WITHIN: Millis = 2_000;
/** How often it looks for members to join or join again. */
const FOLLOW_EVERY: Millis = 500;

export class ClusterWatch implements Disposable {
  readonly #options: DirectoryOptions;
  readonly #filter: AgentFilter;
  readonly #changed: (change: AgentChange) => void;
  /** What each node said so far, null while it said nothing; gone once the first snapshot was told. */
  #parts: Map<NodeId, readonly ConnectedAgent[] | null> | null = new Map();
  /** Members we told or shall tell about; null while nothing watches them. */
  readonly #watching = new Map<NodeId, Disposable | null>();
  readonly #own: Disposable;
  readonly #patience: Disposable;
  #next: Disposable | null = null;
  #over = false;

  constructor(
    options: DirectoryOptions,
    filter: AgentFilter,
    changed: (change: AgentChange) => void,
    watchOwn: (tell: (change: AgentChange) => void) => Disposable,
  ) {
    this.#options = options;
    this.#filter = filter;
    this.#changed = changed;
    const { clock, routing } = options;
    this.#own = watchOwn((change) => this.#tell(routing.self, change));
    this.#patience = clock.schedule(clock.now() + SNAPSHOT_WITHIN, () => this.#tellSnapshot());
    this.#follow();
    // On a later turn: our user has not got the handle yet.
    queueMicrotask(() => this.#tellIfWhole());
  }

  #tell(node: NodeId, change: AgentChange): void {
    if (this.#over) return;
    if (this.#parts) {
      this.#parts.set(node, applied(this.#parts.get(node) ?? [], change));
      if (node !== this.#options.routing.self) this.#tellIfWhole();
    } else if (change.type === "snapshot") {
      this.#changed({ type: "resync", node, agents: change.agents });
    } else {
      this.#changed(change);
    }
  }

  #tellIfWhole(): void {
    if (this.#parts && [...this.#parts.values()].every((part) => part !== null)) this.#tellSnapshot();
  }

  #tellSnapshot(): void {
    const parts = this.#parts;
    if (!parts || this.#over) return;
    this.#parts = null;
    this.#patience[Symbol.dispose]();
    const missing = [...parts].flatMap(([node, part]) => (part ? [] : [node]));
    const agents = [...parts.values()].flatMap((part) => part ?? []).sort(byKey);
    this.#changed({ type: "snapshot", agents, complete: missing.length === 0, missing });
  }

  #follow(): void {
    if (this.#over) return;
    const { routing, clock } = this.#options;
    const members = new Set(routing.members().flatMap((m) => (m.node === routing.self ? [] : [m.node])));
    for (const [node, watching] of this.#watching) if (!members.has(node)) this.#leave(node, watching);
    for (const node of members) if (!this.#watching.get(node)) this.#join(node);
    this.#next = clock.schedule(clock.now() + FOLLOW_EVERY, () => this.#follow());
  }

  #leave(node: NodeId, watching: Disposable | null): void {
    this.#watching.delete(node);
    watching?.[Symbol.dispose]();
    if (!this.#parts) this.#changed({ type: "resync", node, agents: [] });
    else if (this.#parts.delete(node)) this.#tellIfWhole();
  }

  #join(node: NodeId): void {
    this.#parts?.set(node, null);
    const question: ListQuestion = { filter: this.#filter, after: "", limit: 0 };
    let call: Disposable | null = null;
    // Lost, or cut because we read too slowly: the next look at the members asks again, which tells a resync.
    const ended = () => {
      if (this.#watching.get(node) === watching) this.#watching.set(node, null);
    };
    const tell = fromParts((change) => this.#tell(node, change));
    const message = (change: unknown) => tell(change as AgentChange);
    const dialling = this.#options.peers.use(node, (link) => {
      if ("code" in link) queueMicrotask(ended);
      else call = askNode(link, WATCH, question, { message, ended });
    });
    const watching = {
      [Symbol.dispose]() {
        dialling[Symbol.dispose]();
        call?.[Symbol.dispose]();
      },
    };
    this.#watching.set(node, watching);
  }

  [Symbol.dispose](): void {
    if (this.#over) return;
    this.#over = true;
    this.#own[Symbol.dispose]();
    this.#patience[Symbol.dispose]();
    this.#next?.[Symbol.dispose]();
    const watching = [...this.#watching.values()];
    this.#watching.clear();
    for (const one of watching) one?.[Symbol.dispose]();
  }
}

/** What a node's part is after `change`. */
function applied(part: readonly ConnectedAgent[], change: AgentChange): readonly ConnectedAgent[] {
  switch (change.type) {
    case "snapshot":
    case "resync":
      return change.agents;
    case "connected":
      return [...part, change.agent];
    case "disconnected":
      return part.filter((agent) => agent.connection !== change.connection);
  }
}
