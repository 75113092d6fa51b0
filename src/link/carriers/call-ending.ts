/**
 * How a gRPC call over HTTP/2 ended, put together from the pieces in which it is told: headers, trailers, errors of stream,
 * session and socket. A status of gRPC says most, then an answer that is not gRPC's, then the first thing that broke.
 */
import type { IncomingHttpHeaders, IncomingHttpStatusHeader } from "node:http2";

export type CallOver =
  | { readonly type: "status"; readonly code: number; readonly reason: string }
  /** Somebody answered who does not speak gRPC. */
  | { readonly type: "http"; readonly status: number; readonly location: string; readonly reason: string }
  | { readonly type: "broken"; readonly error: Error | null; readonly reason: string }
  | { readonly type: "ended-here"; readonly reason: string };

export class Ending {
  #status: CallOver | null = null;
  #http: CallOver | null = null;
  #error: Error | null = null;
  #goAway = false;
  #here = false;

  /** False: it is not gRPC. */
  answered(headers: IncomingHttpHeaders & IncomingHttpStatusHeader): boolean {
    const status = headers[":status"] ?? 0;
    const type = headers["content-type"] ?? "";
    if (status !== 200 || !type.startsWith("application/grpc")) {
      const reason = `HTTP ${status}${type ? ` (${type})` : ""} instead of gRPC`;
      this.#http = { type: "http", status, location: headers.location ?? "", reason };
      return false;
    }
    this.trailers(headers);
    return true;
  }

  trailers(headers: IncomingHttpHeaders): void {
    const code = headers["grpc-status"];
    if (typeof code !== "string") return;
    const message = headers["grpc-message"];
    this.#status = { type: "status", code: Number(code), reason: typeof message === "string" ? decoded(message) : "" };
  }

  broke(error: Error): void {
    this.#error ??= error;
  }

  goAway(code: number): void {
    this.#goAway = true;
    if (code !== 0) this.broke(new Error(`the other side ended the HTTP/2 connection with code ${code}`));
  }

  endedHere(): void {
    this.#here = true;
  }

  why(): CallOver {
    if (this.#here) return { type: "ended-here", reason: "the call was ended here" };
    return this.#status ?? this.#http ?? this.#broken();
  }

  #broken(): CallOver {
    const error = this.#error;
    const silent = this.#goAway ? "the other side ended the HTTP/2 connection" : "the connection was lost";
    return { type: "broken", error, reason: error?.message || silent };
  }
}

/** gRPC percent-encodes what is not visible ASCII. */
function decoded(message: string): string {
  try {
    return decodeURIComponent(message);
  } catch {
    return message;
  }
}
