/**
 * One gRPC call as the server sees it: messages are pulled one at a time, and whoever sends hears when the bytes have
 * left for HTTP/2. So nothing is read ahead and nothing piles up unseen, which grpc-js's own streams (16 messages each
 * way, whatever their size) do not give.
 */
import {
  Metadata,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type StatusObject,
} from "@grpc/grpc-js";
import type { Millis } from "../../actors/actor.ts";
import { failureOf, grpcStatus } from "../status.ts";

export interface ServerCall {
  /** `/package.Service/Method`. */
  readonly path: string;
  readonly metadata: Metadata;
  /** Until the caller's deadline; Infinity without one. */
  timeLeft(): Millis;
  /** Asks for one message or the end. Not again before it came. */
  read(): void;
  /** Initial metadata; implied by the first `send`. */
  sendMetadata(metadata: Metadata): void;
  /** `sent` is called when HTTP/2 took all of it; never, when the call is over before. */
  send(message: Uint8Array, sent: () => void): void;
  /** Ends the call after what was sent. Only the first counts. */
  finish(status: StatusObject): void;
  /** Ends the call with what was thrown. */
  fail(error: unknown): void;
}

export interface CallHandler {
  message(bytes: Buffer): void;
  /** The caller has half-closed. */
  end(): void;
  /** The call is over: finished, cancelled, past its deadline, or its connection was lost. Called once, the last. */
  closed(): void;
}

/** Begins to answer a call. What it, or its handler, throws becomes the call's status. */
export type Answer = (call: ServerCall) => CallHandler;

/** Told of everything thrown that is not a `Failed`. */
export type BugReport = (error: unknown) => void;

export const OK: StatusObject = { code: 0, details: "OK", metadata: new Metadata() };

class InterceptedCall implements ServerCall {
  readonly path: string;
  readonly metadata: Metadata;
  readonly #call: ServerInterceptingCallInterface;
  readonly #bug: BugReport;

  constructor(path: string, metadata: Metadata, call: ServerInterceptingCallInterface, bug: BugReport) {
    this.path = path;
    this.metadata = metadata;
    this.#call = call;
    this.#bug = bug;
  }

  timeLeft(): Millis {
    // grpc-js made it from its wall clock when the call came.
    return Number(this.#call.getDeadline()) - Date.now();
  }

  read(): void {
    this.#call.startRead();
  }

  sendMetadata(metadata: Metadata): void {
    this.#call.sendMetadata(metadata);
  }

  send(message: Uint8Array, sent: () => void): void {
    this.#call.sendMessage(asBuffer(message), sent);
  }

  finish(status: StatusObject): void {
    this.#call.sendStatus({ ...status, details: status.details.toWellFormed() });
  }

  fail(error: unknown): void {
    const failure = failureOf(error);
    if (failure.code === "internal") this.#bug(error);
    this.finish(grpcStatus(failure));
  }
}

const asBuffer = (bytes: Uint8Array): Buffer =>
  bytes instanceof Buffer ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Takes a call away from grpc-js's own handlers, before they start. */
export function takeOver(
  path: string,
  intercepted: ServerInterceptingCallInterface,
  answer: Answer,
  bug: BugReport,
): ServerInterceptingCall {
  const start = () => {
    let call: ServerCall | null = null;
    let handler: CallHandler | null = null;
    // A throw here would otherwise end the process: these run straight from the socket's events.
    const guarded = (run: () => void): void => {
      try {
        run();
      } catch (error) {
        call?.fail(error);
      }
    };
    intercepted.start({
      onReceiveMetadata(metadata) {
        const begun = new InterceptedCall(path, metadata, intercepted, bug);
        call = begun;
        guarded(() => {
          handler = answer(begun);
        });
      },
      onReceiveMessage: (message: Buffer) => guarded(() => handler?.message(message)),
      onReceiveHalfClose: () => guarded(() => handler?.end()),
      onCancel: () => guarded(() => handler?.closed()),
    });
  };
  return new ServerInterceptingCall(intercepted, { start });
}
