/**
 * A stream at the agent that executes it. It writes down what it got and what it gave, so that both ends can be compared:
 * the body is a prefix of what the caller sent and, once it ended, all of it.
 */
import { failure } from "../../actors/failure.ts";
import { failed } from "../../src/failed.ts";
import { encodeHead, encodeTrailer, type Open } from "../../src/link/messages.ts";
import type { Stream, StreamHandler } from "../../src/link/stream.ts";
import { isPattern } from "../support/pattern.ts";
import type { Pod } from "./agents.ts";
import { Reading, Sending } from "./flow.ts";
import { answerKey, bodyKey, pathOf, type SimulatedRequest } from "./streams.ts";
import type { World } from "./world.ts";

/** The trailer of execution `number` of a request. */
export const trailerOf = (request: SimulatedRequest, number: number): string => `trailer of ${request.n}.${number}`;

export class Execution implements StreamHandler {
  readonly number: number;
  /** All of the answer was handed to the link, its end too. */
  finished = false;
  over = false;
  readonly #world: World;
  readonly #pod: Pod;
  readonly #request: SimulatedRequest;
  readonly #stream: Stream;
  readonly #sending: Sending;
  readonly #reading: Reading;
  #got = 0;
  #bodyEnded = false;
  #stops = false;
  #timer: Disposable | null = null;

  constructor(world: World, pod: Pod, request: SimulatedRequest, stream: Stream) {
    this.#world = world;
    this.#pod = pod;
    this.#request = request;
    this.#stream = stream;
    request.executions.push(this);
    this.number = request.executions.length;
    const { size, piece, answerPause: pause, taking, answer } = request.plan;
    const whole = answer === "fail-midway" ? Math.floor(size / 2) : size;
    const flow = { key: answerKey(request, this.number), size: whole, piece, pause };
    this.#sending = new Sending(flow, pod.clock, stream, () => this.#sent());
    this.#reading = new Reading(
      taking,
      pod.clock,
      () => 5 + world.roll(taking === "pausing" ? 1_000 : 20),
      (bytes) => stream.consumed(bytes),
    );
    world.trace(`${request.id} executed (${this.number}) by ${pod.name}`);
    this.#start();
  }

  /** Bytes of the answer that were handed to the link. */
  get given(): number {
    return this.#sending.sent;
  }

  #start(): void {
    const { answer, accepts, think } = this.#request.plan;
    if (answer === "at-once") {
      this.#answer();
      this.#stops = true;
      this.#reading.stop();
      this.#stream.stop();
      return;
    }
    if (accepts || answer === "fail" || answer === "fail-midway") this.#stream.accept();
    if (answer === "fail") this.#later(think, () => this.#fail());
    else if (answer !== "after-body") this.#later(think, () => this.#answer());
  }

  #later(delay: number, run: () => void): void {
    const { clock } = this.#pod;
    this.#timer = clock.schedule(clock.now() + delay, run);
  }

  #answer(): void {
    if (this.over) return;
    const { id, n } = this.#request;
    const headers = ["x-request", id, "x-execution", `${n}.${this.number}`];
    this.#stream.head(encodeHead({ status: 200, headers }));
    this.#sending.pump();
  }

  #sent(): void {
    const { plan } = this.#request;
    if (plan.answer === "fail-midway") {
      this.#fail();
      return;
    }
    if (plan.trailer) {
      this.#stream.trailer(
        encodeTrailer({ status: this.number, message: trailerOf(this.#request, this.number), headers: ["a", "b"] }),
      );
    }
    this.finished = true;
    this.#stream.end();
  }

  #fail(): void {
    if (this.over) return;
    this.#stream.reset({ failure: failure("upstream-unreachable", "the agent is told to fail"), unprocessed: false });
  }

  #violation(what: string): void {
    this.#world.violation(`${what}: ${this.#request.id} at ${this.#pod.name}`);
  }

  // ---- what its link tells

  accepted(): void {}
  head(): void {
    this.#violation("I17 the executing end was given a HEAD");
  }

  data(bytes: Uint8Array): void {
    if (this.over || this.#bodyEnded) this.#violation("I17 DATA after the end");
    if (!isPattern(bodyKey(this.#request), this.#got, bytes)) {
      this.#violation(`I16 the body is not what was sent, between ${this.#got} and ${this.#got + bytes.length}`);
    }
    this.#got += bytes.length;
    if (!this.#stops) this.#reading.took(bytes.length);
  }

  trailer(): void {
    this.#violation("I17 the executing end was given a TRAILER");
  }

  end(): void {
    if (this.over || this.#bodyEnded) this.#violation("I17 END twice");
    this.#bodyEnded = true;
    const { plan, bodyEnded } = this.#request;
    if (!this.#stops && (!bodyEnded || this.#got !== plan.body)) {
      this.#violation(`I18 a body of ${plan.body} bytes looks whole after ${this.#got}`);
    }
    if (plan.answer === "after-body") this.#later(plan.think, () => this.#answer());
  }

  stopped(): void {
    this.#sending.stop();
    this.finished = true;
  }

  reset(): void {
    if (this.over) this.#violation("I17 RESET after the end");
  }

  sent(): void {
    this.#sending.pump();
  }

  closed(): void {
    if (this.over) this.#violation("I17 closed twice");
    this.over = true;
    this.#timer?.[Symbol.dispose]();
    this.#sending.stop();
    this.#reading.stop();
  }
}

/** Takes an OPEN as agentk's executor does: every call of this is a request that may run. */
export function execute(world: World, pod: Pod, open: Open, stream: Stream): StreamHandler {
  const request = world.requests[Number(open.headers[1])];
  if (!request || open.requestId !== request.id || open.path !== pathOf(request)) {
    world.violation(`I16 an OPEN for ${open.requestId} ${open.path} is of no request`);
    throw failed("internal", "no such request");
  }
  if (open.agentId !== pod.agent || request.agent !== pod.agent) {
    world.violation(`I5 ${request.id} for agent ${request.agent} came to ${pod.name}`);
  }
  if (open.idempotent !== request.plan.idempotent) world.violation(`I16 ${request.id}: a flag changed on its way`);
  if (request.plan.answer === "refuse") throw failed("busy", "the agent is told to refuse");
  request.ran(world);
  return new Execution(world, pod, request, stream);
}
