/** What goes over a path: readers that take all they can, up to a point, and somebody beside them with small requests. */
import type { Millis } from "../../actors/actor.ts";
import { consumed, openStream, sendData, sendEnd } from "../../actors/link-send.ts";
import { DEAF, type StreamState } from "../../actors/stream.ts";
import { LinkPath, type PathOptions } from "./link-path.ts";

export type LoadOptions = PathOptions & {
  readonly readers: number;
  /** Each takes so many bytes and no more. */
  readonly each?: number;
  readonly lasts: Millis;
};

export type Measured = {
  /** Bytes that readers took per millisecond. */
  readonly rate: number;
  /** Of the small requests, one way. */
  readonly p99: Millis;
  readonly p50: Millis;
  readonly path: LinkPath;
};

const SMALL_EVERY: Millis = 5;
/** Windows have settled by then. */
const SETTLED: Millis = 300;
const BLOCK = new Uint8Array(64 * 1024);
/** What waits to be sent, so that no turn is too long for it. */
const STOCK = 5 * 1024 * 1024;

class Reader {
  readonly #state: StreamState;
  readonly #most: number;
  #here = 0;
  taken = 0;

  constructor(state: StreamState, most: number) {
    this.#state = state;
    this.#most = most;
  }

  came(bytes: number): void {
    this.#here += bytes;
  }

  take(path: LinkPath): void {
    const bytes = Math.min(this.#here, this.#most - this.taken);
    if (bytes <= 0) return;
    this.#here -= bytes;
    this.taken += bytes;
    consumed(path.far.link, this.#state, bytes);
  }
}

export function load({ readers, each = Number.POSITIVE_INFINITY, lasts, ...options }: LoadOptions): Measured {
  const path = new LinkPath(options);
  const { near, far, clock } = path;
  const served: Reader[] = [];
  const asked = new Map<StreamState, Millis>();
  const latencies: Millis[] = [];
  far.serve = (state) => {
    const reader = new Reader(state, each);
    served.push(reader);
    const end = () => {
      for (const [small, at] of asked) {
        if (small.id !== state.id) continue;
        asked.delete(small);
        latencies.push(clock.now() - at);
      }
    };
    return { ...DEAF, data: (bytes) => reader.came(bytes.length), end };
  };
  far.everyTurn = () => {
    for (const reader of served) reader.take(path);
  };
  const bulk = Array.from({ length: readers }, () => openStream(near.link, new Uint8Array(300), DEAF, "others"));
  let last = SETTLED;
  near.everyTurn = () => {
    for (const state of bulk) while (state.queued < STOCK / bulk.length) sendData(near.link, state, BLOCK);
    if (clock.now() - last < SMALL_EVERY) return;
    last = clock.now();
    const small = openStream(near.link, new Uint8Array(300), DEAF, "small");
    sendEnd(near.link, small);
    asked.set(small, last);
  };
  clock.advanceTo(lasts);
  const sorted = latencies.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor(sorted.length * share)] ?? Number.POSITIVE_INFINITY;
  return { rate: served.reduce((sum, { taken }) => sum + taken, 0) / lasts, p50: at(0.5), p99: at(0.99), path };
}
