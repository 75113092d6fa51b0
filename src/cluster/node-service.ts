/**
 * What nodes ask each other over peer links besides carrying requests: streams of kind `grpc` for agent 0 with a method of
 * their own. An answer is a sequence of msgpack messages, each behind its u32 length, so that any size flows under credit.
 */
import { Packr } from "msgpackr";
import type { AgentId, RequestId } from "../../actors/ids.ts";
import { failed } from "../failed.ts";
import type { Link } from "../link/link.ts";
import { encodeHead, encodeOpen, type Open } from "../link/messages.ts";
import type { Reset, Stream, StreamHandler } from "../link/stream.ts";

/** No agent has this id: such an OPEN is for the node itself. */
export const NODE_ITSELF = 0 as AgentId;

const packr = new Packr({ useRecords: false });
/** A single message above this is a broken peer. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

export interface NodeCall {
  /** False: more than the other side took so far is waiting; a watcher this slow should be cut. */
  answer(message: unknown): boolean;
  end(): void;
  fail(reset: Reset): void;
}

/** Serves one call; returns what to do when the caller left. */
export type NodeMethod = (question: unknown, call: NodeCall) => () => void;

/** Bytes a slow asker may leave unread before `answer` says false; beside them what was answered at once. */
const MAX_QUEUED_BYTES = 4 * 1024 * 1024;

/** The serving end: throws `Failed` for a method this version does not know. */
export function serveNodeCall(methods: ReadonlyMap<string, NodeMethod>, open: Open, stream: Stream): StreamHandler {
  const method = methods.get(open.method);
  if (!method) throw failed("invalid", `this node knows no ${open.method}: it may run an older version`);
  let left = () => {};
  let asked = false;
  let atOnce = true;
  let most = MAX_QUEUED_BYTES;
  const call: NodeCall = {
    answer(message) {
      const bytes = frame(message);
      if (atOnce) most += bytes.length;
      stream.data(bytes);
      return stream.queued <= most;
    },
    end: () => stream.end(),
    fail: (reset) => stream.reset(reset),
  };
  const reader = new MessageReader((question) => {
    if (asked) throw failed("protocol", `a call of ${open.method} asks once`);
    asked = true;
    left = method(question, call);
    atOnce = false;
  });
  stream.head(encodeHead({ status: 0, headers: [] }));
  return {
    ...IGNORE,
    data(bytes) {
      stream.consumed(bytes.length);
      reader.take(bytes);
    },
    closed: () => left(),
  };
}

export type NodeAnswers = {
  message(message: unknown): void;
  /** Called once; null when the other node ended in order. */
  ended(reset: Reset | null): void;
};

/** The asking end. The stream is reset by `stop`. */
export function askNode(link: Link, method: string, question: unknown, answers: NodeAnswers): Disposable {
  let reset: Reset | null = null;
  const reader = new MessageReader((message) => answers.message(message));
  const stream: Stream = link.open(
    encodeOpen(nodeOpen(method)),
    {
      ...IGNORE,
      data(bytes) {
        stream.consumed(bytes.length);
        reader.take(bytes);
      },
      reset(why) {
        reset = why;
      },
      closed: () => answers.ended(reset),
    },
    NODE_ITSELF,
  );
  stream.data(frame(question));
  stream.end();
  return {
    [Symbol.dispose]: () =>
      stream.reset({ failure: { code: "cancelled", reason: "the asking node needs no more" }, unprocessed: false }),
  };
}

const IGNORE: StreamHandler = {
  accepted() {},
  head() {},
  data() {},
  trailer() {},
  end() {},
  stopped() {},
  reset() {},
  sent() {},
  closed() {},
};

function nodeOpen(method: string): Open {
  return {
    requestId: "" as RequestId,
    agentId: NODE_ITSELF,
    prefer: 0,
    exclude: [],
    kind: "grpc",
    target: { type: "grpc" },
    acceptWithin: 5_000,
    timeLeft: 0,
    traceparent: "",
    tracestate: "",
    idempotent: true,
    upgrade: false,
    class: "unary",
    caller: { kind: "kas", id: "", as: null },
    method,
    path: "",
    headers: [],
  };
}

function frame(message: unknown): Uint8Array {
  const body = packr.pack(message);
  const bytes = Buffer.allocUnsafe(4 + body.length);
  bytes.writeUInt32BE(body.length, 0);
  bytes.set(body, 4);
  return bytes;
}

/** Cuts a byte stream back into messages. */
class MessageReader {
  readonly #message: (message: unknown) => void;
  #rest: Buffer = Buffer.alloc(0);

  constructor(message: (message: unknown) => void) {
    this.#message = message;
  }

  take(bytes: Uint8Array): void {
    this.#rest = this.#rest.length ? Buffer.concat([this.#rest, bytes]) : Buffer.from(bytes);
    while (this.#rest.length >= 4) {
      const length = this.#rest.readUInt32BE(0);
      if (length > MAX_MESSAGE_BYTES) throw failed("protocol", `a peer sent a message of ${length} bytes`);
      if (this.#rest.length < 4 + length) return;
      const body = this.#rest.subarray(4, 4 + length);
      this.#rest = this.#rest.subarray(4 + length);
      this.#message(packr.unpack(body));
    }
  }
}
