/**
 * What the observability listener answers: metrics and probes. They need no credentials and depend on no other node.
 * Pages that are added later (status page, its JSON) come in by `routes`; the listener is its owner's.
 */
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";

export type Readiness = { readonly ready: boolean; readonly phase: string; readonly reason: string };

export type ObservabilityOptions = {
  /** prom-client's Registry, as far as it is used here. */
  readonly registry: { readonly contentType: string; metrics(): Promise<string> };
  readonly readiness: () => Readiness;
  /** False once the event loop was stuck for 30 s. */
  readonly alive: () => boolean;
  readonly paths?: { readonly metrics?: string; readonly liveness?: string; readonly readiness?: string };
  /** Asked for every other path; true when it answers, or will. */
  readonly routes?: (req: IncomingMessage, res: ServerResponse) => boolean;
  readonly problem?: (message: string, cause: unknown) => void;
};

type Page = (res: ServerResponse) => void;

export function observabilityHandler(options: ObservabilityOptions): RequestListener {
  const { paths = {}, routes = () => false } = options;
  const pages = new Map<string, Page>([
    [paths.metrics ?? "/metrics", metricsPage(options)],
    [paths.liveness ?? "/liveness", livenessPage(options)],
    [paths.readiness ?? "/readiness", readinessPage(options)],
  ]);
  return (req, res) => {
    req.resume();
    const [path = ""] = (req.url ?? "").split("?", 1);
    const page = pages.get(path);
    if (!page) {
      if (!routes(req, res)) answer(res, 404, { reason: `there is no ${path} here` });
    } else if (req.method === "GET" || req.method === "HEAD") {
      page(res);
    } else {
      res.setHeader("allow", "GET, HEAD");
      answer(res, 405, { reason: `${path} can only be read` });
    }
  };
}

function metricsPage({ registry, problem = () => {} }: ObservabilityOptions): Page {
  return (res) => {
    registry.metrics().then(
      (text) => send(res, 200, registry.contentType, text),
      (cause) => {
        problem("metrics could not be collected", cause);
        answer(res, 500, { reason: "metrics could not be collected; the log says why" });
      },
    );
  };
}

function livenessPage({ alive }: ObservabilityOptions): Page {
  return (res) => {
    if (alive()) answer(res, 200, { phase: "alive" });
    else answer(res, 503, { phase: "stuck", reason: "the event loop was stuck for 30 s or longer" });
  };
}

function readinessPage({ readiness }: ObservabilityOptions): Page {
  return (res) => {
    const { ready, phase, reason } = readiness();
    answer(res, ready ? 200 : 503, { phase, reason });
  };
}

const answer = (res: ServerResponse, status: number, body: object): void =>
  send(res, status, "application/json", `${JSON.stringify(body)}\n`);

function send(res: ServerResponse, status: number, type: string, text: string): void {
  res.writeHead(status, {
    "content-type": type,
    "content-length": Buffer.byteLength(text),
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
  });
  res.end(res.req.method === "HEAD" ? undefined : text);
}
