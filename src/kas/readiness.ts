/**
 * Whether a load balancer should send callers here, and in which phase the node is. Without NATS a node is not ready only
 * while others have it: readiness never takes the whole cluster down.
 */
import type { Millis } from "../../actors/actor.ts";
import type { Routing } from "../cluster/routing.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Readiness as Probe } from "../telemetry/observability-server.ts";

export type ReadinessOptions = {
  readonly routing: Pick<Routing, "phase" | "bus">;
  /** Is it connected; null where there is none to connect to. */
  readonly nats: () => boolean | null;
  readonly clock: Clock;
  /** How long NATS may be away before it matters that others have it. */
  readonly natsAwayAfter: Millis;
};

const LOOK_EVERY: Millis = 500;

export class Readiness implements Disposable {
  readonly #options: ReadinessOptions;
  readonly #listeners = new Set<() => void>();
  #draining = false;
  #last = false;
  #timer: Disposable;

  constructor(options: ReadinessOptions) {
    this.#options = options;
    this.#timer = this.#lookLater();
  }

  drain(): void {
    this.#draining = true;
    this.changed();
  }

  /** Takes `drain` back. */
  stay(): void {
    this.#draining = false;
    this.changed();
  }

  ready(): boolean {
    return this.probe().ready;
  }

  probe(): Probe {
    if (this.#draining)
      return { ready: false, phase: "draining", reason: "this node finishes what it has and takes nothing new" };
    const { routing, nats } = this.#options;
    const { phase } = routing;
    if (phase === "up") return this.#joined();
    const reason = nats() === false ? "NATS cannot be reached yet; this node keeps trying" : "joining the cluster";
    return { ready: false, phase: phase === "joining" ? "joining" : phase, reason };
  }

  onChange(changed: () => void): Disposable {
    this.#listeners.add(changed);
    return { [Symbol.dispose]: () => void this.#listeners.delete(changed) };
  }

  changed(): void {
    this.#last = this.ready();
    for (const listener of this.#listeners) listener();
  }

  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]();
  }

  #joined(): Probe {
    const { routing, natsAwayAfter } = this.#options;
    const { awayFor, othersHaveIt } = routing.bus;
    if (awayFor < natsAwayAfter || !othersHaveIt) return { ready: true, phase: "ready", reason: "" };
    const reason = `NATS cannot be reached from here for ${Math.round(awayFor / 1000)} s while other nodes reach it`;
    return { ready: false, phase: "isolated", reason };
  }

  /** What others say of NATS changes without a word to us. */
  #lookLater(): Disposable {
    const { clock } = this.#options;
    return clock.schedule(clock.now() + LOOK_EVERY, () => {
      this.#timer = this.#lookLater();
      if (this.ready() !== this.#last) this.changed();
    });
  }
}
