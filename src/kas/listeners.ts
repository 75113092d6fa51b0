/** The listeners of this node: opened by name, told on stdout with the address really taken, closed together. */

import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { formatAddress } from "../config/address.ts";
import type { KasConfig } from "../config/kas.ts";
import { SHARED_LISTENERS } from "../config/worker.ts";
import { type Listener, listen } from "../net/listener.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { KasMetrics } from "../telemetry/metrics.ts";

export type ListenerName = "agent" | "api" | "kubernetes_api" | "private_api" | "observability";

type Settings = Pick<KasConfig["observability"]["listen"], "address" | "certificate_file" | "key_file"> & {
  readonly handshakes_per_second?: number;
};

export type ListenersOptions = {
  readonly config: KasConfig;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Pick<KasMetrics, "onCollect" | "certificateExpiry"> & {
    readonly limits: Pick<KasMetrics["limits"], "handshakes">;
  };
  readonly stdout: (line: string) => void;
  /** Several processes listen for agents and callers on the same ports: the kernel spreads the sockets. */
  readonly shared?: boolean;
};

const SHARED: readonly string[] = SHARED_LISTENERS;

export class Listeners implements AsyncDisposable {
  readonly #options: ListenersOptions;
  readonly #open = new Map<ListenerName, Listener>();
  readonly #certificates = new Map<ListenerName, string>();

  constructor(options: ListenersOptions) {
    this.#options = options;
    options.metrics.onCollect(() => this.#measure());
  }

  /** Resolves to the address taken. Throws `invalid` that says what to do. */
  async open(
    name: ListenerName,
    settings: Settings,
    onSocket: (socket: Socket, alpn: string) => void,
    alpnProtocols: readonly string[] = [],
  ): Promise<string> {
    const { certificate_file, key_file } = settings;
    const tls = certificate_file && key_file ? { certificateFile: certificate_file, keyFile: key_file } : null;
    const { clock, log, stdout, metrics, shared = false } = this.#options;
    const { timings } = this.#options.config;
    const listener = await listen({
      name,
      address: formatAddress(settings.address),
      onSocket,
      reusePort: shared && SHARED.includes(name),
      clock,
      log,
      ...(tls && { tls }),
      ...(alpnProtocols.length > 0 && { alpnProtocols }),
      ...(settings.handshakes_per_second && { maxHandshakesPerSecond: settings.handshakes_per_second }),
      keepAliveAfter: timings.keepalive_after,
      ...(name === "kubernetes_api" && { askEvery: timings.caller_check_interval }),
      refused: () => metrics.limits.handshakes.inc(),
    });
    this.#open.set(name, listener);
    if (certificate_file) this.#certificates.set(name, certificate_file);
    stdout(JSON.stringify({ msg: "listening", listener: name, address: listener.address }));
    return listener.address;
  }

  /** Accepts nothing new on these; sockets that are open live on. */
  close(...names: readonly ListenerName[]): void {
    for (const name of names) this.#open.get(name)?.close();
  }

  #measure(): void {
    const rows = [...this.#certificates].flatMap(([listener, file]) => {
      try {
        const { validTo } = new X509Certificate(readFileSync(file));
        return [{ listener, value: Date.parse(validTo) / 1000 }];
      } catch {
        return []; // being replaced this moment
      }
    });
    this.#options.metrics.certificateExpiry.replace(rows);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#open.values()].map((listener) => listener[Symbol.asyncDispose]()));
  }
}
