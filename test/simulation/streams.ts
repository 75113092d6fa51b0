/**
 * Streams as the routing plane sees them, without bytes: an attempt travels to the holder, is handed to a connection or
 * refused, and ends well or is lost. Counts to how many connections each request was ever handed (I3).
 */
import type { Failure } from "../../actors/failure.ts";
import type { AgentId, ConnectionId, RequestId } from "../../actors/ids.ts";
import type { Attempt, AttemptOutcome, RequestControl } from "../../src/cluster/routing.ts";
import type { TestNode } from "../support/cluster.ts";
import type { World } from "./world.ts";

export type SimulatedRequest = {
  readonly id: RequestId;
  readonly agent: AgentId;
  readonly ingress: TestNode;
  readonly at: number;
  readonly deadline: number;
  readonly idempotent: boolean;
  handed: number;
  accepted: boolean;
  cancelled: boolean;
  /** What the current attempt came to, so far. */
  last: { readonly outcome: AttemptOutcome; readonly delivered: boolean } | null;
  ends: { readonly at: number; readonly outcome: string; readonly failure: Failure | null }[];
};

/** A silent link is known to be lost after this. */
const LINK_LOST = 4_000;

const refusal = (code: Failure["code"]): Failure => ({ code, reason: "simulated" });

/** One attempt under way: at most one outcome that ends it is reported. */
class Flight {
  readonly #world: World;
  readonly #request: SimulatedRequest;
  readonly #attempt: Attempt;
  readonly #control: () => RequestControl;
  #over = false;
  #replayable = true;

  constructor(world: World, request: SimulatedRequest, attempt: Attempt, control: () => RequestControl) {
    this.#world = world;
    this.#request = request;
    this.#attempt = attempt;
    this.#control = control;
  }

  start(): void {
    const { ingress } = this.#request;
    const { nodes } = this.#world.cluster;
    const holder = nodes.get(this.#attempt.node);
    if (holder === ingress) {
      this.#world.after(0, () => this.#request.ends.length === 0 && this.#arrive(ingress, 0));
      return;
    }
    const hop = this.#world.hop();
    if (!ingress.links.to(this.#attempt.node)) {
      this.#world.after(hop, () => this.#report({ type: "refused", failure: refusal("node-gone"), dial: true }));
      return;
    }
    // From here on the OPEN has left: whether it arrives nobody here can know.
    this.#world.after(hop, () => {
      if (this.#request.ends.length > 0) return;
      if (holder?.alive && this.#world.network.linkOpen(ingress.id, holder.id)) this.#arrive(holder, hop);
      else this.#world.after(holder?.alive ? LINK_LOST : 0, () => this.#gone());
    });
  }

  #gone(): void {
    this.#report({ type: "lost", failure: refusal("node-gone"), replayable: this.#replayable });
  }

  #arrive(holder: TestNode, hop: number): void {
    this.#world.cluster.whenAwake(holder, () => {
      if (this.#request.ends.length === 0) this.#take(holder, hop);
    });
  }

  #take(holder: TestNode, hop: number): void {
    const { agent, id, idempotent } = this.#request;
    const taken = holder.routing.take(agent, this.#attempt.prefer, this.#attempt.exclude);
    if (typeof taken !== "number") {
      this.#back(holder, hop, { type: "refused", failure: taken, dial: false });
      return;
    }
    const connection = this.#world.connectionOf(holder, taken);
    if (!connection)
      this.#world.violation(`I2 ${id} was handed to connection ${taken} of ${holder.id}, which is not live`);
    else if (connection.replica.agent !== agent)
      this.#world.violation(`I5 ${id} for agent ${agent} was handed to agent ${connection.replica.agent}`);
    else this.#world.checkHanded(connection, id);
    this.#request.handed++;
    if (!idempotent && this.#request.handed > 1)
      this.#world.violation(`I3 ${id} was handed to ${this.#request.handed}`);
    this.#world.onLost(holder, taken, () => this.#lost(holder, taken, hop));
    if (connection?.frozen) return;
    this.#world.after(this.#world.hop(), () => this.#execute(holder, taken, hop));
  }

  #execute(holder: TestNode, connection: ConnectionId, hop: number): void {
    if (!this.#world.connectionOf(holder, connection)) return;
    this.#back(holder, hop, { type: "accepted" });
    this.#world.after(this.#world.duration(), () => {
      if (!this.#world.connectionOf(holder, connection)) return;
      this.#back(holder, hop, { type: "delivered" });
      this.#world.after(this.#world.chance(0.3) ? this.#world.duration() : 0, () =>
        this.#finish(holder, connection, hop),
      );
    });
  }

  #finish(holder: TestNode, connection: ConnectionId, hop: number): void {
    if (!this.#world.connectionOf(holder, connection)) return;
    this.#world.cluster.whenAwake(holder, () => holder.routing.released(connection));
    this.#back(holder, hop, { type: "done" });
  }

  #lost(holder: TestNode, connection: ConnectionId, hop: number): void {
    this.#world.cluster.whenAwake(holder, () => holder.routing.released(connection));
    this.#world.after(hop, () => this.#gone());
  }

  /** What the holder says; lost when the way back is silent, as the link will be. */
  #back(holder: TestNode, hop: number, outcome: AttemptOutcome): void {
    const { ingress } = this.#request;
    this.#world.after(hop, () => {
      if (holder === ingress || (holder.alive && this.#world.network.linkOpen(holder.id, ingress.id))) {
        this.#report(outcome);
      } else this.#world.after(holder.alive ? LINK_LOST : 0, () => this.#gone());
    });
  }

  #report(outcome: AttemptOutcome): void {
    this.#world.cluster.whenAwake(this.#request.ingress, () => this.#tell(outcome));
  }

  #tell(outcome: AttemptOutcome): void {
    const { ends } = this.#request;
    if (this.#over || ends.length > 0) return;
    this.#request.last = { outcome, delivered: outcome.type === "delivered" || this.#request.last?.delivered === true };
    if (outcome.type === "accepted") {
      this.#request.accepted = true;
      // About half of the bodies are still whole when the agent accepts.
      this.#replayable = this.#world.chance(0.5);
    } else if (outcome.type === "delivered") this.#replayable = false;
    else this.#over = true;
    if (outcome.type === "done") ends.push({ at: this.#world.now(), outcome: "done", failure: null });
    this.#control().report(this.#attempt.number, outcome);
  }
}

/** I4: after the first, an attempt needs proof for the one before, or its loss where the request may run twice. */
function checkAttempt(world: World, { id, idempotent, last }: SimulatedRequest, { number }: Attempt): void {
  if (number === 1) return;
  const outcome = last?.outcome;
  const repeatable = outcome?.type === "lost" && outcome.replayable && idempotent && !last?.delivered;
  if (outcome?.type === "refused" || repeatable) return;
  world.violation(`I4 ${id} was attempted again (${number}) after ${outcome?.type ?? "nothing"}`);
}

/** Sends a request and follows it to its end. */
export function send(world: World, ingress: TestNode, agent: AgentId, idempotent: boolean): SimulatedRequest {
  const within = 4_000 + world.roll(8_000);
  const id = `r${world.requests.length + 1}` as RequestId;
  const at = world.now();
  const request: SimulatedRequest = {
    id,
    agent,
    ingress,
    at,
    deadline: at + within,
    idempotent,
    handed: 0,
    accepted: false,
    cancelled: false,
    last: null,
    ends: [],
  };
  world.requests.push(request);
  const control: RequestControl = ingress.routing.request(
    { requestId: id, agentId: agent, acceptWithin: within, timeLeft: 0, idempotent },
    {
      attempt: (attempt) => {
        checkAttempt(world, request, attempt);
        request.last = null;
        new Flight(world, request, attempt, () => control).start();
      },
      fail: (failure) => {
        request.ends.push({ at: world.now(), outcome: failure.code, failure });
        if (failure.code === "outcome-unknown" && request.last?.outcome.type === "refused") {
          world.violation(`I4 ${id} ended with an unknown outcome although nothing ran`);
        }
        world.trace(`${id} ${failure.code}`);
      },
    },
  );
  if (world.chance(0.03)) {
    world.after(world.roll(within), () =>
      world.cluster.whenAwake(ingress, () => {
        if (request.ends.length > 0) return;
        request.cancelled = true;
        request.ends.push({ at: world.now(), outcome: "cancelled", failure: null });
        control.cancel();
      }),
    );
  }
  return request;
}
