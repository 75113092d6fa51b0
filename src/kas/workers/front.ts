/**
 * The observability listener of several workers: their metrics on one page, probes that speak for all of them, and
 * everything else passed on to one that is ready.
 */
import { createServer, get } from "node:http";
import type { Socket } from "node:net";
import { text as readText } from "node:stream/consumers";
import type { Millis } from "../../../actors/actor.ts";
import type { KasConfig } from "../../config/kas.ts";
import type { Logger } from "../../telemetry/logger.ts";
import {
  type ObservabilityOptions,
  observabilityHandler,
  type Readiness,
} from "../../telemetry/observability-server.ts";
import { type Exposition, mergeExpositions } from "./exposition.ts";
import { passOn, type Reached } from "./pass-on.ts";

export type Fronted = Reached & { readonly takesSockets: boolean; readonly alive: boolean };

export type FrontOptions = {
  readonly config: KasConfig["observability"];
  readonly workers: readonly Fronted[];
  /** The supervisor's own metrics. */
  readonly registry: ObservabilityOptions["registry"];
  readonly alive: () => boolean;
  /** Once it drains or ends, whatever its workers say. */
  readonly ending: () => boolean;
  readonly log: Logger;
};

const SCRAPE_WITHIN: Millis = 2_000;

export function createFront(options: FrontOptions) {
  const { config, workers, registry, alive, log } = options;
  const handler = observabilityHandler({
    registry: { contentType: registry.contentType, metrics: () => collect(options) },
    readiness: () => readinessOf(options),
    alive: () => alive() && workers.every((worker) => worker.alive),
    paths: {
      metrics: config.prometheus.url_path,
      liveness: config.liveness_probe.url_path,
      readiness: config.readiness_probe.url_path,
    },
    routes: (req, res) => {
      passOn(workers, req, res);
      return true;
    },
    problem: (message, err) => log.error(message, { err }),
  });
  const server = createServer({ headersTimeout: 10_000, requestTimeout: 30_000 }, handler);
  return {
    onSocket: (socket: Socket) => void server.emit("connection", socket),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
    },
  };
}

/**
 * A caller may land on any worker that takes sockets, so each of these must be ready. One that is being started again takes
 * none: the others serve without it.
 */
export function readinessOf({ workers, ending }: Pick<FrontOptions, "workers" | "ending">): Readiness {
  if (ending())
    return { ready: false, phase: "draining", reason: "this server finishes what it has and takes nothing new" };
  const taking = workers.filter(({ takesSockets }) => takesSockets);
  const unready = (taking.length > 0 ? taking : workers).find(({ readiness }) => !readiness.ready);
  if (!unready) {
    const away = workers.filter((worker) => !taking.includes(worker)).map(({ index }) => index);
    return { ready: true, phase: "ready", reason: away.length > 0 ? `without worker ${away.join(", ")}` : "" };
  }
  const { phase, reason } = unready.readiness;
  return { ready: false, phase, reason: `worker ${unready.index}: ${reason}` };
}

/** A worker that does not answer in time is missing on the page: `kas_worker_up` tells. */
async function collect({ workers, registry, config }: FrontOptions): Promise<string> {
  const pages = workers.map(async ({ index, observability }): Promise<Exposition | null> => {
    if (!observability) return null;
    const text = await read(`http://${observability}${config.prometheus.url_path}`).catch(() => null);
    return text === null ? null : { worker: index, text };
  });
  const own: Exposition = { worker: null, text: await registry.metrics() };
  return mergeExpositions([own, ...(await Promise.all(pages)).filter((page) => page !== null)]);
}

function read(url: string): Promise<string | null> {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(SCRAPE_WITHIN);
    const asked = get(url, { agent: false, signal }, (res) => {
      readText(res).then((text) => resolve(res.statusCode === 200 ? text : null), reject);
    });
    asked.on("error", reject);
  });
}
