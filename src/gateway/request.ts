/**
 * Gateway.Request: one message in, one out, in memory both ways and therefore at most 4 MiB each. Whatever the API
 * server or service answered is an OK call; only failures are statuses.
 */
import { failure } from "../../actors/failure.ts";
import type { RoutedStream, Router } from "../cluster/router.ts";
import { Failed, failed } from "../failed.ts";
import { HttpRequestSchema } from "../gen/kas/gateway/v1/gateway_pb.ts";
import { OK } from "../grpc/call.ts";
import { decode, single } from "../grpc/service.ts";
import { decodeHead, decodeTrailer, type FlatHeaders } from "../link/messages.ts";
import type { Reset, StreamHandler } from "../link/stream.ts";
import { failureOf } from "../status.ts";
import { encodeReply, MAX_MESSAGE_BYTES, tooLarge } from "./codec.ts";
import type { GuardedAnswer, GuardedCall } from "./guard.ts";
import { unaryRequest } from "./head.ts";

const requestTooLarge = () =>
  failed(
    "too-large",
    `the request is above ${MAX_MESSAGE_BYTES} bytes: send it with the method Stream, which has no limit`,
  );

/** The answer, gathered. */
class Gathering implements StreamHandler {
  readonly #call: GuardedCall;
  readonly #body: Uint8Array[] = [];
  #bodyBytes = 0;
  #status = 0;
  #headers: FlatHeaders = [];
  #trailers: FlatHeaders = [];
  #stream: RoutedStream | null = null;

  constructor(call: GuardedCall) {
    this.#call = call;
  }

  begin(router: Router, message: Buffer): void {
    if (message.length > MAX_MESSAGE_BYTES) throw requestTooLarge();
    const asked = decode(HttpRequestSchema, message);
    const stream = router.open(unaryRequest(this.#call, asked), this);
    this.#stream = stream;
    if (asked.body.length > 0) stream.data(asked.body);
    stream.end();
  }

  /** The call is over: if the stream is not, nobody waits for it any more. */
  left(): void {
    const why =
      this.#call.timeLeft() <= 0 ? failure("deadline", "the deadline passed") : failure("cancelled", "the caller left");
    this.#stream?.reset({ failure: why, unprocessed: false });
    this.#stream = null;
  }

  head(payload: Uint8Array): void {
    this.#attempt(() => {
      const head = decodeHead(payload);
      this.#status = head.status;
      this.#headers = head.headers;
    });
  }

  data(bytes: Uint8Array): void {
    this.#bodyBytes += bytes.length;
    if (this.#bodyBytes > MAX_MESSAGE_BYTES) {
      this.#give(tooLarge());
      return;
    }
    this.#body.push(bytes);
    this.#stream?.consumed(bytes.length);
  }

  trailer(payload: Uint8Array): void {
    this.#attempt(() => {
      this.#trailers = decodeTrailer(payload).headers;
    });
  }

  end(): void {
    this.#attempt(() => {
      if (this.#status === 0) throw failed("protocol", "the agent ended the answer without a status");
      const reply = encodeReply({
        status: this.#status,
        headers: this.#headers,
        body: this.#body,
        bodyBytes: this.#bodyBytes,
        trailers: this.#trailers,
      });
      this.#call.send(reply, () => {});
      this.#call.finish(OK);
    });
  }

  reset({ failure }: Reset): void {
    this.#stream = null;
    this.#call.fail(new Failed(failure));
  }

  closed(): void {
    this.#stream = null;
  }

  accepted(): void {}
  stopped(): void {}
  sent(): void {}

  #attempt(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#give(error);
    }
  }

  #give(error: unknown): void {
    this.#stream?.reset({ failure: failureOf(error), unprocessed: false });
    this.#stream = null;
    this.#call.fail(error);
  }
}

export const request =
  (router: Router): GuardedAnswer =>
  (call) => {
    const gathering = new Gathering(call);
    return single(
      call,
      (message) => gathering.begin(router, message),
      () => gathering.left(),
    );
  };
