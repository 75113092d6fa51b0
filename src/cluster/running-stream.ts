/**
 * A stream under way that its node may end before its time, and the router that keeps those of its callers. Whoever asked
 * for a stream that is cut is never told that nothing ran, because an agent may have begun it.
 */
import type { Bag } from "../../actors/bag.ts";
import { type Failure, failure } from "../../actors/failure.ts";
import type { StreamClass } from "../link/messages.ts";
import type { Stream, StreamHandler } from "../link/stream.ts";
import { DelegatingHandler } from "./delegating-handler.ts";
import type { Router } from "./router.ts";

export interface RunningStream {
  readonly class: StreamClass;
  /** Ends it in both directions, now. */
  cut(reason: Failure): void;
}

export type RunningStreams<Running extends RunningStream = RunningStream> = Iterable<Running> & {
  readonly size: number;
};

/** `running` always holds what callers have under way here. */
export function keepRunning(router: Router, running: Bag<RunningStream>): Router {
  return {
    open(request, handler) {
      const kept = new Kept(request.class, handler, () => place.remove());
      const place = running.add(kept);
      const stream = router.open(request, kept);
      kept.stream = stream;
      return stream;
    },
  };
}

class Kept extends DelegatingHandler implements RunningStream {
  readonly class: StreamClass;
  stream: Stream | null = null;
  readonly #leave: () => void;
  #over = false;

  constructor(streamClass: StreamClass, inner: StreamHandler, leave: () => void) {
    super(inner);
    this.class = streamClass;
    this.#leave = leave;
  }

  cut({ code, reason }: Failure): void {
    if (this.#over) return;
    this.inner.reset({ failure: failure("outcome-unknown", reason), unprocessed: false });
    this.stream?.reset({ failure: failure(code, reason), unprocessed: false });
  }

  override closed(): void {
    this.#over = true;
    this.#leave();
    super.closed();
  }
}
