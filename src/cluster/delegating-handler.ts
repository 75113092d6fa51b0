/** A stream's user that stands before another one and tells it everything; who extends it says what it does besides. */
import type { Reset, StreamHandler } from "../link/stream.ts";

export abstract class DelegatingHandler implements StreamHandler {
  protected readonly inner: StreamHandler;

  constructor(inner: StreamHandler) {
    this.inner = inner;
  }

  accepted(): void {
    this.inner.accepted();
  }
  head(payload: Uint8Array): void {
    this.inner.head(payload);
  }
  data(bytes: Uint8Array): void {
    this.inner.data(bytes);
  }
  trailer(payload: Uint8Array): void {
    this.inner.trailer(payload);
  }
  end(): void {
    this.inner.end();
  }
  stopped(): void {
    this.inner.stopped();
  }
  reset(reset: Reset): void {
    this.inner.reset(reset);
  }
  sent(bytes: number): void {
    this.inner.sent(bytes);
  }
  closed(): void {
    this.inner.closed();
  }
}
