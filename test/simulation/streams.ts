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
  ends: { readonly at: number; readonly outcome: string; readonly failure: Failure | null }[];
};

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
    const holder = this.#world.cluster.nodes.get(this.#attempt.node);
    const hop = holder === ingress ? 0 : this.#world.hop();
    this.#world.after(hop, () => {
      if (this.#request.ends.length > 0) return;
      if (holder && this.#reaches(holder)) {
        if (holder !== ingress) this.#heard(holder);
        this.#arrive(holder, hop);
        return;
      }
      if (ingress.alive) ingress.routing.peerRefused(this.#attempt.node);
      this.#report({ type: "refused", failure: refusal("node-gone"), dial: true });
    });
  }

  #reaches(holder: TestNode): boolean {
    const { ingress } = this.#request;
    return holder.alive && ingress.alive && (holder === ingress || !this.#world.network.isCut(ingress.id, holder.id));
  }

  #heard(holder: TestNode): void {
    this.#request.ingress.routing.peerHeard(holder.id);
    holder.routing.peerHeard(this.#request.ingress.id);
  }

  #arrive(holder: TestNode, hop: number): void {
    const { agent, id, idempotent } = this.#request;
    const taken = holder.routing.take(agent, this.#attempt.prefer, this.#attempt.exclude);
    if (typeof taken !== "number") {
      this.#back(holder, hop, { type: "refused", failure: taken, dial: false });
      return;
    }
    const connection = this.#world.connectionOf(holder, taken);
    if (!connection)
      this.#world.violation(`I2 ${id} was handed to connection ${taken} of ${holder.id}, which is not live`);
    else this.#world.checkGeneration(connection);
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
      holder.routing.released(connection);
      this.#back(holder, hop, { type: "delivered" });
      this.#back(holder, hop, { type: "done" });
    });
  }

  #lost(holder: TestNode, connection: ConnectionId, hop: number): void {
    if (holder.alive) holder.routing.released(connection);
    this.#world.after(hop, () =>
      this.#report({ type: "lost", failure: refusal("node-gone"), replayable: this.#replayable }),
    );
  }

  /** What the holder says; lost when the way back is cut. */
  #back(holder: TestNode, hop: number, outcome: AttemptOutcome): void {
    this.#world.after(hop, () => {
      if (this.#reaches(holder)) this.#report(outcome);
      else this.#report({ type: "lost", failure: refusal("node-gone"), replayable: this.#replayable });
    });
  }

  #report(outcome: AttemptOutcome): void {
    const { ingress, ends } = this.#request;
    if (this.#over || !ingress.alive || ends.length > 0) return;
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
    ends: [],
  };
  world.requests.push(request);
  const control: RequestControl = ingress.routing.request(
    { requestId: id, agentId: agent, acceptWithin: within, timeLeft: 0, idempotent },
    {
      attempt: (attempt) => new Flight(world, request, attempt, () => control).start(),
      fail: (failure) => {
        request.ends.push({ at: world.now(), outcome: failure.code, failure });
        world.trace(`${id} ${failure.code}`);
      },
    },
  );
  if (world.chance(0.03)) {
    world.after(world.roll(within), () => {
      if (request.ends.length > 0 || !ingress.alive) return;
      request.cancelled = true;
      request.ends.push({ at: world.now(), outcome: "cancelled", failure: null });
      control.cancel();
    });
  }
  return request;
}
