/**
 * Joins a stream that the other side opened with one that we open for it elsewhere, frame by frame and without a copy.
 * Bytes are credited on one side as they leave on the other, so at most a window of each direction is held here; towards
 * the opener nothing is granted before the executing end has taken the stream.
 */
import type { Failure } from "../../actors/failure.ts";
import type { Reset, Stream, StreamHandler } from "./stream.ts";

export type Splice = {
  /** Hears the stream that was opened to us: return it from `LinkEvents.open`. */
  readonly inbound: StreamHandler;
  /** Hears the stream that we open for it: give it to `Link.open`. */
  readonly outbound: StreamHandler;
  /** The stream that we opened. To be called in the same turn. */
  join(outward: Stream): void;
};

/** `over` is called once, when both streams are, with what either side ended them for before their time. */
export function splice(inward: Stream, over: (failure: Failure | null) => void = () => {}): Splice {
  return new Joint(inward, over).splice();
}

class Joint {
  readonly #inward: Stream;
  readonly #over: (failure: Failure | null) => void;
  #failure: Failure | null = null;
  #outward: Stream | null = null;
  #accepted = false;
  /** Taken from the opener before acceptance: granted only then. */
  #owed = 0;
  #open = 2;

  constructor(inward: Stream, over: (failure: Failure | null) => void) {
    this.#inward = inward;
    this.#over = over;
  }

  splice(): Splice {
    return {
      inbound: this.#inbound(),
      outbound: this.#outbound(),
      join: (outward) => {
        this.#outward = outward;
      },
    };
  }

  #closed(): void {
    this.#open--;
    if (this.#open === 0) this.#over(this.#failure);
  }

  #sent(bytes: number): void {
    if (this.#accepted) this.#inward.consumed(bytes);
    else this.#owed += bytes;
  }

  #taken(): void {
    this.#accepted = true;
    this.#inward.accept();
    this.#inward.consumed(this.#owed);
    this.#owed = 0;
  }

  #inbound(): StreamHandler {
    return {
      accepted() {},
      head() {},
      data: (bytes) => this.#outward?.data(bytes),
      trailer: (payload) => this.#outward?.trailer(payload),
      end: () => this.#outward?.end(),
      stopped: () => this.#outward?.stop(),
      reset: ({ failure }: Reset) => {
        this.#failure ??= failure;
        this.#outward?.reset({ failure, unprocessed: false });
      },
      sent: (bytes) => this.#outward?.consumed(bytes),
      closed: () => this.#closed(),
    };
  }

  #outbound(): StreamHandler {
    const inward = this.#inward;
    return {
      accepted: () => this.#taken(),
      head: (payload) => inward.head(payload),
      data: (bytes) => inward.data(bytes),
      trailer: (payload) => inward.trailer(payload),
      end: () => inward.end(),
      stopped: () => inward.stop(),
      reset: (reset) => {
        this.#failure ??= reset.failure;
        inward.reset(reset);
      },
      sent: (bytes) => this.#sent(bytes),
      closed: () => this.#closed(),
    };
  }
}
