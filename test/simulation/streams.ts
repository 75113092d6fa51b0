/**
 * A request and its caller, through the real ingress: what it was given is checked byte by byte against what the agent's
 * end gave, how often it ran against what it was told.
 */
import { ROOT_CONTEXT } from "@opentelemetry/api";
import type { Millis } from "../../actors/actor.ts";
import type { Failure } from "../../actors/failure.ts";
import type { AgentId } from "../../actors/ids.ts";
import type { RoutedStream } from "../../src/cluster/router.ts";
import type { Attempt, AttemptOutcome } from "../../src/cluster/routing.ts";
import { decodeHead, decodeTrailer, type FlatHeaders } from "../../src/link/messages.ts";
import type { Reset, StreamHandler } from "../../src/link/stream.ts";
import { mayRetry } from "../../src/status.ts";
import type { TestNode } from "../support/cluster.ts";
import { isPattern } from "../support/pattern.ts";
import { type Execution, trailerOf } from "./execution.ts";
import { Reading, Sending } from "./flow.ts";
import type { SimulatedNode } from "./node.ts";
import { type Plan, planOf } from "./plan.ts";
import type { World } from "./world.ts";

export const bodyKey = ({ n }: SimulatedRequest): number => n * 8;
export const answerKey = ({ n }: SimulatedRequest, execution: number): number => n * 8 + 1 + (execution % 7);
export const pathOf = ({ n, agent }: SimulatedRequest): string => `/api/${agent}/${n}?x=%20`;

export class SimulatedRequest implements StreamHandler {
  readonly n: number;
  readonly agent: AgentId;
  readonly ingress: TestNode;
  readonly at: Millis;
  readonly deadline: Millis;
  readonly plan: Plan;
  readonly executions: Execution[] = [];
  readonly ends: { readonly at: number; readonly outcome: string; readonly failure: Failure | null }[] = [];
  id = "";
  wasAccepted = false;
  /** All of the body was handed to the ingress, its end too. */
  bodyEnded = false;
  /** What the current attempt came to, so far. */
  last: { readonly outcome: AttemptOutcome; readonly delivered: boolean } | null = null;
  /** Bytes of the answer that came. */
  got = 0;
  readonly #world: World;
  readonly #node: SimulatedNode;
  #attempts = 0;
  /** Attempts that were lost without proof: what they left behind may still run. */
  #lost = 0;
  #stream: RoutedStream | null = null;
  #sending: Sending | null = null;
  readonly #reading: Reading;
  #leaving: Disposable | null = null;
  #execution: Execution | null = null;
  #trailer = false;
  #ended = false;
  #stopped = false;
  #reset: Failure | null = null;

  constructor(world: World, node: SimulatedNode, agent: AgentId) {
    this.#world = world;
    this.#node = node;
    this.n = world.requests.length;
    this.agent = agent;
    this.ingress = node.node;
    this.plan = planOf(world);
    this.at = world.now();
    const { acceptWithin, timeLeft } = this.plan;
    this.deadline = this.at + (timeLeft > 0 ? Math.min(acceptWithin, timeLeft) : acceptWithin);
    this.#reading = new Reading(
      this.plan.reading,
      node.clock,
      () => 5 + world.roll(this.plan.reading === "pausing" ? 3_000 : 30),
      (bytes) => this.#stream?.consumed(bytes),
    );
  }

  get isOver(): boolean {
    return this.ends.length > 0;
  }

  open(): void {
    const { plan, agent } = this;
    this.#world.requests.push(this);
    const headers: FlatHeaders = ["x-request", String(this.n), "accept", "*/*"];
    const stream = this.#node.open(this, {
      agentId: agent,
      kind: plan.kind,
      target: plan.kind === "grpc" ? { type: "grpc" } : { type: "kubernetes" },
      acceptWithin: plan.acceptWithin,
      timeLeft: plan.timeLeft,
      idempotent: plan.idempotent,
      upgrade: false,
      class: "unary",
      caller: { kind: "pat", id: `user-${this.n % 3}`, as: null },
      method: plan.idempotent ? "GET" : "POST",
      path: pathOf(this),
      headers,
      trace: ROOT_CONTEXT,
    });
    this.#stream = stream;
    this.#world.trace(
      `${this.id} sent to agent ${agent} ${plan.idempotent ? "GET" : "POST"} ${plan.answer} ${plan.body} up ${plan.size} down`,
    );
    const flow = { key: bodyKey(this), size: plan.body, piece: plan.piece, pause: plan.bodyPause };
    this.#sending = new Sending(flow, this.#node.clock, stream, () => {
      this.bodyEnded = true;
      stream.end();
    });
    this.#sending.pump();
    const { leaves } = plan;
    if (leaves !== null) this.#leaving = this.#node.clock.schedule(this.at + leaves, () => this.#leave());
  }

  #leave(): void {
    if (this.isOver) return;
    this.#reset = { code: "cancelled", reason: "the caller left" };
    this.#stream?.reset({ failure: this.#reset, unprocessed: false });
  }

  #violation(what: string): void {
    this.#world.violation(`${what}: ${this.id} via ${this.ingress.id}`);
  }

  // ---- what routing decides, seen from beside it

  /** I4: after the first, an attempt needs proof for the one before, or its loss where the request may run twice. */
  attempting({ number, node, prefer }: Attempt): void {
    this.#world.trace(`${this.id} attempt ${number} ${node}#${prefer}`);
    const outcome = this.last?.outcome;
    const repeatable =
      outcome?.type === "lost" && outcome.replayable && this.plan.idempotent && !this.last?.delivered && this.got === 0;
    if (number > 1 && outcome?.type !== "refused" && !repeatable) {
      this.#violation(`I4 attempted again (${number}) after ${outcome?.type ?? "nothing"}`);
    }
    this.#attempts = number;
    this.last = null;
  }

  reported(outcome: AttemptOutcome): void {
    const delivered = outcome.type === "delivered" || this.last?.delivered === true;
    if (outcome.type !== "delivered")
      this.#world.trace(`${this.id} ${outcome.type} ${"failure" in outcome ? outcome.failure.code : ""}`);
    if (outcome.type === "lost") this.#lost++;
    this.last = { outcome, delivered };
    if (outcome.type === "refused" && this.#lost === 0 && this.executions.length > 0) {
      this.#violation(`I4 proof that nothing ran (${outcome.failure.reason}), and it runs`);
    }
  }

  /** An agent is about to run it. */
  ran(world: World): void {
    if (!this.plan.idempotent && this.executions.length > 0) {
      world.violation(`I3 ${this.id} may not run twice and was handed to ${this.executions.length + 1} agents`);
    }
    if (this.last?.outcome.type === "refused" && this.#lost === 0) {
      world.violation(`I4 ${this.id} runs after there was proof that it does not (attempt ${this.#attempts})`);
    }
  }

  // ---- what its stream tells

  accepted(): void {
    if (this.wasAccepted) this.#violation("I17 accepted twice");
    this.wasAccepted = true;
  }

  head(payload: Uint8Array): void {
    this.#early();
    const { headers } = decodeHead(payload);
    const [n, number] = (headers[3] ?? "").split(".").map(Number);
    if (this.#execution || headers[1] !== this.id || n !== this.n) this.#violation(`I16 a HEAD of ${headers.join()}`);
    this.#execution = this.executions[(number ?? 0) - 1] ?? null;
  }

  data(bytes: Uint8Array): void {
    this.#early();
    const execution = this.#execution;
    if (!execution || !isPattern(answerKey(this, execution.number), this.got, bytes)) {
      this.#violation(`I16 the answer is not what was given, between ${this.got} and ${this.got + bytes.length}`);
    }
    this.got += bytes.length;
    if (execution && this.got > execution.given) this.#violation(`I16 more came than was given`);
    const { stopsAfter } = this.plan;
    if (stopsAfter !== null && this.got > stopsAfter && !this.#stopped) {
      this.#stopped = true;
      this.#reading.stop();
      this.#stream?.stop();
    }
    if (!this.#stopped) this.#reading.took(bytes.length);
  }

  trailer(payload: Uint8Array): void {
    this.#early();
    const { message, headers } = decodeTrailer(payload);
    const number = this.#execution?.number ?? 0;
    if (message !== trailerOf(this, number) || headers.join() !== "a,b") this.#violation(`I16 a TRAILER of ${message}`);
    this.#trailer = true;
  }

  end(): void {
    this.#early();
    this.#ended = true;
    const execution = this.#execution;
    if (this.#stopped) return;
    const whole = execution?.finished && this.got === this.plan.size && this.#trailer === this.plan.trailer;
    if (!whole) this.#violation(`I17 an answer of ${this.plan.size} bytes looks whole after ${this.got}`);
  }

  /** Nothing may come before `accepted`, or after the end. */
  #early(): void {
    if (this.isOver || this.#ended) this.#violation("I17 something came after the end");
    if (!this.wasAccepted) this.#violation("I17 an answer came before it was accepted");
  }

  stopped(): void {
    if (this.isOver) this.#violation("I17 STOP after the end");
    this.#sending?.stop();
    this.bodyEnded = true;
    this.#stream?.end();
  }

  sent(): void {
    this.#sending?.pump();
  }

  reset({ failure }: Reset): void {
    if (this.isOver || this.#reset) this.#violation("I17 RESET after the end");
    this.#reset = failure;
  }

  closed(): void {
    const outcome = this.#reset?.code ?? "done";
    this.ends.push({ at: this.#world.now(), outcome, failure: this.#reset });
    this.#leaving?.[Symbol.dispose]();
    this.#sending?.stop();
    this.#reading.stop();
    this.#world.trace(`${this.id} ended ${outcome} ${this.got}/${this.plan.size}`);
    if (this.ends.length > 1) return;
    if (!this.#reset && !this.#ended) this.#violation("I17 closed without an end or a reason");
    if (outcome === "outcome-unknown" && this.last?.outcome.type === "refused" && this.#lost === 0) {
      this.#violation("I4 it ended with an unknown outcome although nothing ran");
    }
  }

  /** I4, at the end of the world: who was told that nothing ran may ask again. */
  checkPromise(): void {
    const code = this.ends[0]?.failure?.code;
    if (code && mayRetry(code) && !this.plan.idempotent && this.executions.length > 0) {
      this.#violation(`I4 it ended ${code}, which says that nothing ran, and it ran`);
    }
  }
}
