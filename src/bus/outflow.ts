/**
 * How much of what was published the server has not yet confirmed. The NATS client buffers without bound when the server
 * does not read, so this is the bound: above 8 MiB nothing more is taken until the server has answered a PING sent after it.
 */

const MAX_UNCONFIRMED_BYTES = 8 * 1024 * 1024;
const CONFIRM_EVERY_BYTES = 256 * 1024;
/** What a message costs besides its payload. */
const OVERHEAD_BYTES = 128;

export class Outflow {
  #unconfirmed = 0;
  #confirming = false;
  #era = 0;

  /** False: too much is under way, drop it. */
  take(bytes: number): boolean {
    if (this.#unconfirmed + bytes > MAX_UNCONFIRMED_BYTES) return false;
    this.#unconfirmed += bytes + OVERHEAD_BYTES;
    return true;
  }

  /** Asks for a confirmation when one is due. `ping` resolves when the server has read all that was written before. */
  confirm(ping: () => Promise<void>): void {
    if (this.#confirming || this.#unconfirmed < CONFIRM_EVERY_BYTES) return;
    this.#confirming = true;
    const era = this.#era;
    const asked = this.#unconfirmed;
    const over = (confirmed: number) => {
      if (era !== this.#era) return;
      this.#confirming = false;
      this.#unconfirmed -= confirmed;
      if (confirmed > 0) this.confirm(ping);
    };
    ping().then(
      () => over(asked),
      () => over(0),
    );
  }

  /** A new connection, or none: nothing is under way. */
  reset(): void {
    this.#era += 1;
    this.#unconfirmed = 0;
    this.#confirming = false;
  }
}
