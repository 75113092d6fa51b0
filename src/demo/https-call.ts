/** The demo as kubectl: GET over HTTPS at a node's Kubernetes API proxy, with a token of the static file. */
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { text } from "node:stream/consumers";

export type Target = {
  readonly address: string;
  readonly certificate: string;
  /** `pat:<agent id>:<token>` */
  readonly credential: string;
};

export type HttpsAnswer = {
  readonly status: number;
  readonly body: string;
  readonly traceId: string;
  /** kas's own word where it failed; "" when the answer is that of the API or service. */
  readonly failureCode: string;
};

const WITHIN = 15_000;

/** Resolves with the head of the answer. */
async function open({ address, certificate, credential }: Target, path: string): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const call = request(`https://${address}${path}`, {
    ca: certificate,
    headers: { authorization: `Bearer ${credential}` },
    timeout: WITHIN,
  });
  call.once("response", resolve).once("error", reject);
  call.once("timeout", () => call.destroy(new Error(`nothing came for ${WITHIN / 1000} s`)));
  call.end();
  return await promise;
}

const header = (answer: IncomingMessage, name: string) => String(answer.headers[name] ?? "");

export async function get(target: Target, path: string): Promise<HttpsAnswer> {
  const answer = await open(target, path);
  return {
    status: answer.statusCode ?? 0,
    body: await text(answer),
    traceId: header(answer, "x-kas-trace-id"),
    failureCode: header(answer, "failure-code"),
  };
}

/** The first line of an answer that goes on, with the time it took; then the answer is given up. */
export async function firstLine(target: Target, path: string) {
  const began = performance.now();
  const answer = await open(target, path);
  let line = "";
  for await (const chunk of answer) {
    line += chunk;
    if (line.includes("\n")) break;
  }
  return { status: answer.statusCode ?? 0, line: line.split("\n")[0] ?? "", millis: performance.now() - began };
}
