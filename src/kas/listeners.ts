/** The listeners of this node: opened by name, told on stdout with the address really taken, closed together. */

import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { formatAddress } from "../config/address.ts";
import type { KasConfig } from "../config/kas.ts";
import { type Listener, listen } from "../net/listener.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { KasMetrics } from "../telemetry/metrics.ts";

export type ListenerName = "agent" | "api" | "kubernetes_api" | "private_api" | "observability";

type Settings = Pick<KasConfig["observability"]["listen"], "address" | "certificate_file" | "key_file">;

export type ListenersOptions = {
  readonly config: KasConfig;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: KasMetrics;
  readonly stdout: (line: string) => void;
};

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
    const { clock, log, stdout } = this.#options;
    const listener = await listen({
      name,
      address: formatAddress(settings.address),
      onSocket,
      clock,
      log,
      ...(tls && { tls }),
      ...(alpnProtocols.length > 0 && { alpnProtocols }),
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
