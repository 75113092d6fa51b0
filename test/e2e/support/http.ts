/**
 * A caller over HTTP/1.1, one connection a request and none kept alive (unless asked), so that what is open after a test is not ours.
 * `request` gives the answer as it comes; `fetchText` reads it to its end and fails when the answer was cut.
 */
import { type Agent, type IncomingHttpHeaders, type IncomingMessage, request as plain } from "node:http";
import { request as secure } from "node:https";
import type { Readable } from "node:stream";
import { text as readText } from "node:stream/consumers";

export type CallOptions = {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array | Readable;
  readonly ca?: string;
  readonly signal?: AbortSignal;
  readonly within?: number;
  /** Keeps connections; without it every request has one of its own. */
  readonly agent?: Agent;
};

export type Answer = { readonly status: number; readonly headers: IncomingHttpHeaders; readonly text: string };

function start(url: string, { method = "GET", headers = {}, ca, signal, within = 30_000, agent }: CallOptions) {
  const options = { method, headers, agent: agent ?? (false as const), timeout: within, ...(signal && { signal }) };
  const call = url.startsWith("https:") ? secure(url, { ...options, ...(ca && { ca }) }) : plain(url, options);
  call.on("timeout", () => call.destroy(new Error(`${method} ${url}: nothing came for ${within} ms`)));
  return call;
}

/** Resolves with the answer's head; its body is not read. */
export async function request(url: string, options: CallOptions = {}): Promise<IncomingMessage> {
  const call = start(url, options);
  const answered = new Promise<IncomingMessage>((resolve, reject) => {
    call.once("response", resolve);
    call.once("error", reject);
  });
  const { body } = options;
  if (body === undefined || typeof body === "string" || body instanceof Uint8Array) call.end(body);
  else body.pipe(call);
  const answer = await answered;
  answer.on("error", () => {});
  return answer;
}

export async function fetchText(url: string, options: CallOptions = {}): Promise<Answer> {
  const answer = await request(url, options);
  return { status: answer.statusCode ?? 0, headers: answer.headers, text: await readText(answer) };
}

/** Asks for an upgrade; resolves with the socket after 101, or with the answer that came instead. */
export async function upgrade(url: string, options: CallOptions = {}) {
  const call = start(url, { ...options, headers: { connection: "Upgrade", upgrade: "echo", ...options.headers } });
  return await new Promise<{ readonly socket: import("node:stream").Duplex } | { readonly answer: IncomingMessage }>(
    (resolve, reject) => {
      call.once("upgrade", (_answer, socket, head) => {
        if (head.length > 0) socket.unshift(head);
        resolve({ socket });
      });
      call.once("response", (answer) => resolve({ answer }));
      call.once("error", reject);
      call.end();
    },
  );
}
