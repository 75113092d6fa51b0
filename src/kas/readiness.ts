/** Whether a load balancer should send callers here, and in which phase the node is. */
import type { Routing } from "../cluster/routing.ts";
import type { Readiness as Probe } from "../telemetry/observability-server.ts";

export class Readiness {
  readonly #routing: Routing;
  readonly #nats: () => boolean | null;
  readonly #listeners = new Set<() => void>();
  #draining = false;

  /** `nats`: is it connected; null where there is none to connect to. */
  constructor(routing: Routing, nats: () => boolean | null) {
    this.#routing = routing;
    this.#nats = nats;
  }

  drain(): void {
    this.#draining = true;
    this.changed();
  }

  ready(): boolean {
    return this.probe().ready;
  }

  probe(): Probe {
    if (this.#draining)
      return { ready: false, phase: "draining", reason: "this node finishes what it has and takes nothing new" };
    const { phase } = this.#routing;
    if (phase === "up") return { ready: true, phase: "ready", reason: "" };
    const reason =
      this.#nats() === false ? "NATS cannot be reached yet; this node keeps trying" : "joining the cluster";
    return { ready: false, phase: phase === "joining" ? "joining" : phase, reason };
  }

  onChange(changed: () => void): Disposable {
    this.#listeners.add(changed);
    return { [Symbol.dispose]: () => void this.#listeners.delete(changed) };
  }

  changed(): void {
    for (const listener of this.#listeners) listener();
  }
}
