/**
 * Requests for operators' resources that reach the supervisor, passed on: reads to a worker that is ready, changes to all of
 * them, because to whoever asks they are one node.
 */
import { type IncomingMessage, request, type ServerResponse } from "node:http";
import { text as readText } from "node:stream/consumers";
import type { Millis } from "../../../actors/actor.ts";
import type { Readiness } from "../../telemetry/observability-server.ts";
import { CALLER_ADDRESS } from "./message.ts";

/** A worker as far as requests for it go. */
export type Reached = {
  readonly index: number;
  readonly readiness: Readiness;
  /** Where it answers; null while it does not. */
  readonly observability: string | null;
};

const ANSWER_WITHIN: Millis = 30_000;

export function passOn(workers: readonly Reached[], req: IncomingMessage, res: ServerResponse): void {
  const up = workers.filter(({ observability }) => observability !== null);
  const worker = up.find(({ readiness }) => readiness.ready) ?? up[0];
  if (!worker) refuse(res, "no worker is up; try again");
  else if (req.method === "GET" || req.method === "HEAD") passTo(worker, req, res);
  else void passToAll(up, req, res);
}

function passTo(worker: Reached, req: IncomingMessage, res: ServerResponse): void {
  const passed = open(worker, req, (answer) => {
    res.writeHead(answer.statusCode ?? 502, kept(answer.headers));
    answer.once("error", () => res.destroy());
    answer.pipe(res);
  });
  passed.once("error", () => {
    if (res.headersSent) res.destroy();
    else refuse(res, `worker ${worker.index} did not answer; try again`);
  });
  res.once("close", () => passed.destroy());
  passed.end();
}

/** The first answer that is a refusal, else the first answer and beside it those of all. */
async function passToAll(workers: readonly Reached[], req: IncomingMessage, res: ServerResponse): Promise<void> {
  try {
    const answers = await Promise.all(workers.map((worker) => answerOf(worker, req)));
    const refusal = answers.find(({ status }) => status >= 400);
    if (refusal) send(res, refusal.status, refusal.text);
    else send(res, 200, JSON.stringify(together(answers.map(({ text }) => JSON.parse(text))), null, 2));
  } catch {
    refuse(res, "not every worker answered, so some may not have done it; ask again");
  }
}

type Change = Readonly<Record<string, unknown>>;

function together(answers: readonly Change[]): Change {
  const disconnected = answers.reduce((sum, answer) => sum + (Number(answer.disconnected) || 0), 0);
  return {
    ...answers[0],
    ...(answers.some((answer) => "disconnected" in answer) && { disconnected }),
    workers: answers,
  };
}

type Answer = { readonly status: number; readonly text: string };

const answerOf = (worker: Reached, req: IncomingMessage): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const passed = open(worker, req, (answer) => {
      readText(answer).then((text) => resolve({ status: answer.statusCode ?? 502, text }), reject);
    });
    passed.once("error", reject);
    passed.end();
  });

/** Asks without a body: no resource takes one. */
function open(
  worker: Reached,
  { method = "GET", url: path = "/", headers, socket }: IncomingMessage,
  answered: Answered,
) {
  const { "content-length": _body, ...others } = kept(headers);
  const options = { method, path, headers: { ...others, [CALLER_ADDRESS]: socket.remoteAddress ?? "" }, agent: false };
  const passed = request(`http://${worker.observability}`, options);
  passed.setTimeout(ANSWER_WITHIN, () => passed.destroy());
  passed.once("response", (answer) => {
    passed.setTimeout(0);
    answered(answer);
  });
  return passed;
}

type Answered = (answer: IncomingMessage) => void;

/** Node writes its own of these. */
const OF_ONE_CONNECTION = new Set(["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"]);

const kept = (headers: IncomingMessage["headers"]) =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => !OF_ONE_CONNECTION.has(name)));

function refuse(res: ServerResponse, reason: string): void {
  send(res, 503, JSON.stringify({ code: "cluster-unavailable", reason }));
}

function send(res: ServerResponse, status: number, text: string): void {
  const body = `${text.trimEnd()}\n`;
  const length = Buffer.byteLength(body);
  res.writeHead(status, { "content-type": "application/json", "content-length": length, "cache-control": "no-store" });
  res.end(body);
}
