/**
 * After a test everything is as it was before: no stream, no parked request, no buffered byte, as many handles, subscriptions
 * and peer links as at the baseline, which is taken after a warm-up. Waits for that, then fails with a table of what is not.
 */
import type { Metrics } from "./metrics.ts";
import { until } from "./wait.ts";

/** A process that can be asked what it holds. */
export type Watched = {
  readonly name: string;
  readonly alive: boolean;
  readonly kind: "kas" | "agentk";
  metrics(): Promise<Metrics>;
};

export type Leak = {
  readonly process: string;
  readonly metric: string;
  readonly expected: string;
  readonly found: number;
};

export type GateOptions = {
  readonly within?: number;
  /** Handles that may be there beyond the baseline, for example because agents moved to this node. */
  readonly moreHandles?: number;
};

/** Must be 0 at the end, whatever the baseline. */
const ZERO = {
  kas: ["kas_streams_active", "kas_requests_parked", "kas_stream_buffered_bytes"],
  agentk: ["agentk_streams_active"],
} as const;
/** Must not be above the baseline. */
const NO_MORE = ["kas_nats_subscriptions", "kas_peer_links"] as const;
const HANDLES = "kas_open_handles";

export class LeakGate {
  readonly #watched: () => readonly Watched[];
  readonly #baselines = new Map<Watched, Metrics>();

  private constructor(watched: () => readonly Watched[]) {
    this.#watched = watched;
  }

  /** Waits until nothing is going on, then takes the baseline. Call it after a warm-up request. */
  static async baseline(watched: () => readonly Watched[]): Promise<LeakGate> {
    const gate = new LeakGate(watched);
    await gate.#settle(10_000, 0, false);
    for (const one of watched()) if (one.alive) gate.#baselines.set(one, await one.metrics());
    return gate;
  }

  /** Fails with a table of what is still there. Processes that ended or are new since the baseline are held to zero only. */
  async check({ within = 10_000, moreHandles = 0 }: GateOptions = {}): Promise<void> {
    await this.#settle(within, moreHandles, true);
  }

  async #settle(within: number, moreHandles: number, compare: boolean): Promise<void> {
    let leaks: readonly Leak[] = [];
    try {
      await until(
        "nothing to be left",
        async () => {
          leaks = await this.#leaks(moreHandles, compare);
          return leaks.length === 0;
        },
        { within, every: 100 },
      );
    } catch (cause) {
      const reason = leaks.length === 0 ? String(cause) : `left behind after ${within} ms:\n${table(leaks)}`;
      throw new Error(reason, { cause });
    }
  }

  async #leaks(moreHandles: number, compare: boolean): Promise<readonly Leak[]> {
    const alive = this.#watched().filter((one) => one.alive);
    const found = await Promise.all(
      alive.map(async (one) => {
        const now = await one.metrics();
        const before = compare ? this.#baselines.get(one) : undefined;
        return [...notZero(one, now), ...(before ? notBack(one, before, now, moreHandles) : [])];
      }),
    );
    return found.flat();
  }
}

function notZero(one: Watched, now: Metrics): readonly Leak[] {
  const leaks: Leak[] = [];
  for (const metric of ZERO[one.kind]) {
    if (!now.has(metric)) leaks.push({ process: one.name, metric, expected: "the metric", found: Number.NaN });
    else if (now.sum(metric) !== 0) leaks.push({ process: one.name, metric, expected: "0", found: now.sum(metric) });
  }
  if (one.kind === "agentk") return leaks;
  const [opened, closed] = [now.sum("kas_streams_opened_total"), now.sum("kas_streams_closed_total")];
  if (opened !== closed) {
    leaks.push({
      process: one.name,
      metric: "kas_streams_closed_total",
      expected: `${opened} (opened)`,
      found: closed,
    });
  }
  return leaks;
}

function notBack(one: Watched, before: Metrics, now: Metrics, moreHandles: number): readonly Leak[] {
  if (one.kind === "agentk") return [];
  const leaks: Leak[] = [];
  for (const metric of NO_MORE) {
    const [then, found] = [before.sum(metric), now.sum(metric)];
    if (found > then) leaks.push({ process: one.name, metric, expected: `≤ ${then}`, found });
  }
  const handles = before.by(HANDLES, "type");
  for (const [type, found] of now.by(HANDLES, "type")) {
    const most = (handles.get(type) ?? 0) + moreHandles;
    if (found > most) leaks.push({ process: one.name, metric: `${HANDLES}{${type}}`, expected: `≤ ${most}`, found });
  }
  return leaks;
}

function table(leaks: readonly Leak[]): string {
  return leaks
    .map(
      ({ process, metric, expected, found }) =>
        `  ${process.padEnd(12)} ${metric.padEnd(40)} expected ${expected}, found ${found}`,
    )
    .join("\n");
}
