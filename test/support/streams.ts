/** Both ends of a request: a caller that writes down what it hears, and the agent's end with behaviours. */
import type { Context } from "@opentelemetry/api";
import { ROOT_CONTEXT } from "@opentelemetry/api";
import type { FailureCode } from "../../actors/failure.ts";
import type { AgentId } from "../../actors/ids.ts";
import type { RoutedStream, RouteRequest, Router } from "../../src/cluster/router.ts";
import { failed } from "../../src/failed.ts";
import { encodeHead, encodeTrailer, type Open } from "../../src/link/messages.ts";
import type { Reset, Stream, StreamHandler } from "../../src/link/stream.ts";

/** Everything a user of a stream was told, in order; bytes of DATA joined. */
export class Heard implements StreamHandler {
  readonly told: string[] = [];
  readonly chunks: Uint8Array[] = [];
  ending: Reset | null = null;
  sentBytes = 0;
  /** Credits what it gets at once. */
  reads = true;
  stream: Stream | null = null;

  get body(): Buffer {
    return Buffer.concat(this.chunks);
  }
  get isOver(): boolean {
    return this.told.includes("closed");
  }

  accepted(): void {
    this.told.push("accepted");
  }
  head(_payload: Uint8Array): void {
    this.told.push("head");
  }
  data(bytes: Uint8Array): void {
    if (this.told.at(-1) !== "data") this.told.push("data");
    this.chunks.push(Buffer.from(bytes));
    if (this.reads) this.stream?.consumed(bytes.length);
  }
  trailer(_payload: Uint8Array): void {
    this.told.push("trailer");
  }
  end(): void {
    this.told.push("end");
  }
  stopped(): void {
    this.told.push("stopped");
  }
  reset(reset: Reset): void {
    this.ending = reset;
    this.told.push(`reset ${reset.failure.code}`);
  }
  sent(bytes: number): void {
    this.sentBytes += bytes;
  }
  closed(): void {
    this.told.push("closed");
  }
}

/** One stream at an executing end. */
export class Served extends Heard {
  readonly open: Open;
  /** Who got it, for counting. */
  readonly by: string;
  /** Wants no more of the body. */
  stops = false;
  readonly #ended: () => void;

  constructor(open: Open, stream: Stream, by: string, ended: () => void = () => {}) {
    super();
    this.open = open;
    this.stream = stream;
    this.by = by;
    this.#ended = ended;
  }

  override end(): void {
    super.end();
    this.#ended();
  }

  answer(text = "ok"): void {
    this.stream?.head(encodeHead({ status: 200, headers: [] }));
    this.stream?.data(Buffer.from(text));
    this.stream?.trailer(encodeTrailer({ status: 0, message: "", headers: [] }));
    this.stream?.end();
  }
}

/** What an agent does with an OPEN; `die` cuts its link. */
export type Behaviour = (open: Open, stream: Stream, by: string, die: () => void) => Served;

export const answers =
  (text = "ok"): Behaviour =>
  (open, stream, by) => {
    const served: Served = new Served(open, stream, by, () => served.answer(text));
    return served;
  };

/** Accepts nothing, says nothing. */
export const stalls: Behaviour = (open, stream, by) => new Served(open, stream, by);

/** Reads nothing either. */
export const freezes: Behaviour = (open, stream, by) => {
  const served = new Served(open, stream, by);
  served.reads = false;
  return served;
};

export const accepts: Behaviour = (open, stream, by) => {
  const served = new Served(open, stream, by);
  stream.accept();
  return served;
};

export const refuses =
  (code: FailureCode = "busy"): Behaviour =>
  () => {
    throw failed(code, "the agent is told to refuse");
  };

/** Says so without proof. */
export const resets =
  (code: FailureCode): Behaviour =>
  (open, stream, by) => {
    stream.accept();
    later(4, () => stream.reset({ failure: { code, reason: "the agent is told to fail" }, unprocessed: false }));
    return new Served(open, stream, by);
  };

export const dies: Behaviour = (open, stream, by, die) => {
  die();
  return new Served(open, stream, by);
};

export const acceptsThenDies: Behaviour = (open, stream, by, die) => {
  stream.accept();
  later(20, die);
  return new Served(open, stream, by);
};

/** Head and some of the answer, then its link is gone. */
export const diesAnswering: Behaviour = (open, stream, by, die) => {
  stream.head(encodeHead({ status: 200, headers: [] }));
  stream.data(Buffer.from("half"));
  later(20, die);
  return new Served(open, stream, by);
};

/** The whole answer before the body ended, and STOP. */
export const answersEarly: Behaviour = (open, stream, by) => {
  const served = new Served(open, stream, by);
  served.answer("early");
  stream.stop();
  return served;
};

function later(turns: number, run: () => void): void {
  if (turns === 0) run();
  else setImmediate(() => later(turns - 1, run));
}

export async function turns(count = 40): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

export const request = (agentId: AgentId, changes: Partial<RouteRequest> = {}): RouteRequest => ({
  agentId,
  kind: "http",
  target: { type: "kubernetes" },
  acceptWithin: 20_000,
  timeLeft: 0,
  idempotent: false,
  upgrade: false,
  class: "unary",
  caller: { kind: "pat", id: "alice", as: null },
  method: "POST",
  path: "/api",
  headers: [],
  trace: ROOT_CONTEXT as Context,
  ...changes,
});

export type Call = { readonly stream: RoutedStream; readonly heard: Heard };

/** Opens a request; with `body` (also "") it is sent and ended at once. */
export function call(
  router: Router,
  agentId: AgentId,
  changes: Partial<RouteRequest> = {},
  body: string | Uint8Array | null = "",
  heard = new Heard(),
): Call {
  const stream = router.open(request(agentId, changes), heard);
  heard.stream = stream;
  if (body !== null) {
    if (body.length > 0) stream.data(typeof body === "string" ? Buffer.from(body) : body);
    stream.end();
  }
  return { stream, heard };
}
