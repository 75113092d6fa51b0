/**
 * One upgraded connection (exec, attach, port-forward): raw bytes both ways, only after a 101 that answers what was asked.
 * Each side may end its direction alone. Any other status is an ordinary answer, after which the socket closes. Where the
 * command may have run and no head came, the socket closes without a status: kubectl repeats a command on any but 101.
 */
import { type IncomingMessage, ServerResponse, STATUS_CODES, validateHeaderName, validateHeaderValue } from "node:http";
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { type Failure, type FailureCode, failure } from "../../actors/failure.ts";
import type { TokenId } from "../auth/auth.ts";
import { failed } from "../failed.ts";
import { decodeHead, decodeTrailer, type Head } from "../link/messages.ts";
import type { Reset, StreamHandler } from "../link/stream.ts";
import { Answer } from "./answer.ts";
import { answerHeaders } from "./answer-headers.ts";
import { Http1Wire } from "./http1-wire.ts";
import { watchStall } from "./stall.ts";
import { Visit, type VisitContext } from "./visit.ts";

const PAUSE_ABOVE = 64 * 1024;
const RESUME_BELOW = 32 * 1024;

/** Before a head these say nothing about whether the command ran. */
const MAY_HAVE_RUN: ReadonlySet<FailureCode> = new Set(["outcome-unknown", "protocol", "internal", "cancelled"]);

export class Upgrade implements StreamHandler {
  readonly #visit: Visit;
  readonly #req: IncomingMessage;
  readonly #socket: Socket;
  readonly #context: VisitContext;
  readonly #closedTo: (upgrade: Upgrade) => void;
  #stall: Disposable | null = null;
  /** Before 101: what the caller sent early. After: null. */
  #early: Buffer[] | null = [];
  #earlyBytes = 0;
  #asked = "";
  #accepted = false;
  #switched = false;
  /** Set when the answer is an ordinary one. */
  #answer: Answer | null = null;
  #ended = false;
  #unwanted = false;
  #bytesOut = 0;
  #over = false;

  constructor(req: IncomingMessage, socket: Socket, context: VisitContext, closed: (upgrade: Upgrade) => void) {
    this.#req = req;
    this.#socket = socket;
    this.#context = context;
    this.#visit = new Visit(req, context);
    this.#closedTo = closed;
    socket.setTimeout(0);
    socket.on("error", ignore);
    socket.on("close", () => this.callerGone());
  }

  /** `early`: bytes that came in one piece with the head. */
  start(early: Buffer, fault: Failure | null): void {
    try {
      const request = this.#visit.read(this.#req, true);
      this.#asked = (request.headers.upgrade ?? "").toLowerCase();
      this.#receive(early);
      this.#socket.on("data", (chunk: Buffer) => this.#receive(chunk));
      this.#socket.on("end", () => this.#callerEnded());
      if (fault) {
        this.#fail(fault);
        return;
      }
      this.#visit.open(request, this, ignore, (refusal) => this.#fail(refusal));
    } catch (error) {
      this.#fail(this.#visit.failureOf(error));
    }
  }

  #receive(chunk: Buffer): void {
    if (chunk.length === 0) return;
    if (this.#early) {
      this.#early.push(chunk);
      this.#earlyBytes += chunk.length;
      if (this.#earlyBytes > PAUSE_ABOVE) this.#pause();
    } else if (this.#switched && !this.#unwanted) this.#forward(chunk);
  }

  #forward(chunk: Buffer): void {
    const { stream, record } = this.#visit;
    record.bytesIn += chunk.length;
    stream?.data(chunk);
    if (stream && stream.queued > PAUSE_ABOVE) this.#pause();
  }

  #pause(): void {
    this.#socket.pause();
    const { clock, limits } = this.#context;
    this.#stall ??= watchStall({
      clock,
      within: limits.upgradeStalled,
      moved: () => (this.#socket.isPaused() ? this.#visit.moved + this.#bytesOut : null),
      over: (stalled) => {
        this.#stall = null;
        if (stalled) this.#spoilt(this.#visit.stalled(limits.upgradeStalled));
      },
    });
  }

  #callerEnded(): void {
    if (this.#switched) this.#visit.stream?.end();
    else if (this.#answer === null) this.#socket.destroy(); // gone before it was answered
  }

  accepted(): void {
    this.#accepted = true;
  }

  head(payload: Uint8Array): void {
    this.#accepted = true;
    if (this.#switched || this.#answer) return;
    try {
      const head = decodeHead(payload);
      if (head.status === 101) this.#switch(head);
      else this.#ordinary().head(checked(head), this.#visit.policy);
    } catch (error) {
      this.#spoilt(error);
    }
  }

  #switch(head: Head): void {
    const upgrade = headerOf(head, "upgrade");
    if (upgrade.toLowerCase() !== this.#asked) {
      throw failed("protocol", "the cluster switched to another protocol than the one that was asked for");
    }
    const { flat } = answerHeaders({ status: 204, headers: head.headers }, this.#visit.policy);
    flat.push("connection", "Upgrade", "upgrade", upgrade);
    this.#socket.write(rawHead(101, flat), "latin1");
    this.#switched = true;
    const early = this.#early ?? [];
    this.#early = null;
    for (const chunk of early) this.#forward(chunk);
    if ((this.#visit.stream?.queued ?? 0) <= PAUSE_ABOVE) this.#socket.resume();
  }

  /** What the caller sends from now on is read and dropped: the socket closes with the answer. */
  #ordinary(): Answer {
    this.#early = null;
    const res = new ServerResponse(this.#req);
    res.shouldKeepAlive = false;
    res.assignSocket(this.#socket);
    res.on("finish", () => {
      res.detachSocket(this.#socket);
      this.#socket.destroySoon();
    });
    this.#socket.resume();
    const wire = new Http1Wire(this.#req, res, this.#context);
    this.#answer = new Answer(wire, { taken: (bytes) => this.#visit.stream?.consumed(bytes), last: () => true });
    return this.#answer;
  }

  data(bytes: Uint8Array): void {
    if (this.#answer) {
      this.#answer.data(bytes);
      return;
    }
    if (!this.#switched) {
      this.#spoilt(failed("protocol", "the agent sent data before a head"));
      return;
    }
    this.#bytesOut += bytes.length;
    this.#socket.write(bytes, (error) => {
      if (!error) this.#visit.stream?.consumed(bytes.length);
    });
  }

  trailer(payload: Uint8Array): void {
    try {
      this.#answer?.trailer(decodeTrailer(payload).headers);
    } catch (error) {
      this.#spoilt(error);
    }
  }

  end(): void {
    if (this.#answer === null && !this.#switched) {
      this.#spoilt(failed("protocol", "the agent ended its answer before a head"));
      return;
    }
    this.#ended = true;
    if (this.#answer) {
      this.#answer.end();
      this.#visit.stream?.end();
    } else if (this.#unwanted) this.#socket.destroySoon();
    else this.#socket.end();
  }

  /** After both this and the end there is nothing left that the caller could do here. */
  stopped(): void {
    this.#unwanted = true;
    this.#socket.resume();
    this.#visit.stream?.end();
    if (this.#switched && this.#ended) this.#socket.destroySoon();
  }

  sent(): void {
    const { stream } = this.#visit;
    if (this.#switched && this.#socket.isPaused() && stream && stream.queued < RESUME_BELOW) this.#socket.resume();
  }

  reset({ failure }: Reset): void {
    this.#fail(failure);
  }

  closed(): void {}

  revoked(tokens: ReadonlySet<TokenId>): void {
    if (!tokens.has(this.#visit.tokenId)) return;
    const refusal = failure("unauthenticated", "unauthorized: this token was revoked while the request ran");
    this.#visit.stream?.reset({ failure: refusal, unprocessed: false });
    this.#fail(refusal);
  }

  #spoilt(error: unknown): void {
    const known = error instanceof Error && "code" in error ? unfit(error) : error;
    const reason = this.#visit.failureOf(known);
    this.#visit.stream?.reset({ failure: reason, unprocessed: false });
    this.#fail(reason);
  }

  #fail(reason: Failure): void {
    if (this.#over || this.#answer?.ended) return;
    this.#visit.record.failure = reason;
    const silent = MAY_HAVE_RUN.has(reason.code) || (reason.code === "deadline" && this.#accepted);
    if (this.#switched) abort(this.#socket);
    else if (this.#answer === null && silent && this.#visit.stream) this.#socket.destroy();
    else (this.#answer ?? this.#ordinary()).fail(reason, this.#visit.traceId, this.#visit.extra);
  }

  /** The socket has closed, whoever closed it. */
  callerGone(): void {
    if (this.#over) return;
    this.#over = true;
    this.#stall?.[Symbol.dispose]();
    const { record } = this.#visit;
    const whole = this.#answer ? this.#answer.ended : this.#ended;
    if (!whole && record.failure === null) record.failure = failure("cancelled", "the caller closed the connection");
    this.#visit.cancel("the caller closed the connection");
    const status = this.#switched ? 101 : (this.#answer?.status ?? 0);
    this.#visit.finish(status, this.#answer?.bytes ?? this.#bytesOut);
    this.#closedTo(this);
  }
}

function checked(head: Head): Head {
  if (head.status >= 200 && head.status <= 999) return head;
  throw failed("protocol", `the agent answered an upgrade with status ${head.status}`);
}

function headerOf({ headers }: Head, name: string): string {
  for (let i = 0; i + 1 < headers.length; i += 2) {
    if ((headers[i] ?? "").toLowerCase() === name) return headers[i + 1] ?? "";
  }
  return "";
}

/** A head as bytes; throws as node:http does for what would break it. */
export function rawHead(status: number, flat: readonly string[]): string {
  let text = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n`;
  for (let i = 0; i + 1 < flat.length; i += 2) {
    const name = flat[i] ?? "";
    const value = flat[i + 1] ?? "";
    validateHeaderName(name);
    validateHeaderValue(name, value);
    text += `${name}: ${value}\r\n`;
  }
  return `${text}\r\n`;
}

const unfit = (cause: Error) => failed("protocol", "the cluster's answer has a header that is not valid HTTP", cause);

function ignore(): void {}

/** Bytes after an upgrade have no frame that would show that they were cut: a reset must not look like an end. */
function abort(socket: Socket): void {
  // TLS shows it by itself: its end says goodbye, its destruction does not.
  if (socket instanceof TLSSocket) socket.destroy();
  else socket.resetAndDestroy();
}
