/** Callers that speak HTTP/2 over TLS: one that keeps to it, and one that writes frames as it likes. */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from "node:http2";
import { type TLSSocket, connect as tlsConnect } from "node:tls";
import { until } from "./harness.ts";

export type Got = {
  readonly stream: ClientHttp2Stream;
  status: number;
  headers: IncomingHttpHeaders;
  trailers: IncomingHttpHeaders;
  raw: readonly string[];
  readonly chunks: Buffer[];
  ended: boolean;
  closed: boolean;
};

export const BEARER = { authorization: "Bearer pat:1:agent" } as const;

export class Http2Caller implements AsyncDisposable {
  readonly session: ClientHttp2Session;
  readonly goaways: { code: number; last: number }[] = [];

  constructor(port: number) {
    this.session = connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
    this.session.on("error", () => {});
    this.session.on("goaway", (code, last) => this.goaways.push({ code, last }));
  }

  /** Begins a request; `open`: its body is still to come. */
  ask(headers: OutgoingHttpHeaders, { open = false, read = true } = {}): Got {
    const stream = this.session.request({ ...BEARER, ...headers }, { endStream: !open });
    const got: Got = {
      ...{ stream, status: 0, headers: {}, trailers: {}, raw: [], chunks: [], ended: false, closed: false },
    };
    stream.on("response", (answer, _flags, raw) => {
      got.status = answer[":status"] ?? 0;
      got.headers = answer;
      got.raw = raw as unknown as string[];
    });
    stream.on("trailers", (trailers) => {
      got.trailers = trailers;
    });
    if (read) stream.on("data", (chunk: Buffer) => got.chunks.push(chunk));
    stream.on("end", () => {
      got.ended = true;
    });
    stream.on("close", () => {
      got.closed = true;
    });
    stream.on("error", () => {});
    return got;
  }

  async get(path: string, headers: OutgoingHttpHeaders = {}): Promise<Got> {
    return await over(this.ask({ ":path": path, ...headers }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.session.destroy();
    await until(() => this.session.destroyed, "the caller is gone");
  }
}

export async function over(got: Got): Promise<Got> {
  await until(() => got.closed, "the stream is closed");
  return got;
}

export const textOf = ({ chunks }: Got): string => Buffer.concat(chunks).toString();

type Frame = { readonly type: number; readonly flags: number; readonly stream: number; readonly payload: Buffer };

export const FRAME = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goaway: 7, windowUpdate: 8 } as const;
export const CODE = { none: 0, internal: 2, cancel: 8, calm: 11 } as const;

export function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

const text = (value: string): Buffer => {
  const length = value.length;
  const prefix = length < 127 ? [length] : [127, ((length - 127) % 128) | 128, Math.floor((length - 127) / 128)];
  return Buffer.concat([Buffer.from(prefix), Buffer.from(value)]);
};

export type Fields = readonly (readonly [name: string, value: string])[];

/** A request's HEADERS; `end`: no body follows. */
export function request(stream: number, fields: Fields, end = true): Buffer {
  const tunnel = fields.some(([name, value]) => value === "CONNECT" && name === ":method");
  const scheme: Fields = tunnel && !fields.some(([name]) => name === ":protocol") ? [] : [[":scheme", "https"]];
  const all: Fields = [...scheme, ...fields, ["authorization", "Bearer pat:1:agent"]];
  const block = Buffer.concat(all.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
  return frame(FRAME.headers, end ? 5 : 4, stream, block);
}

export const GET: Fields = [
  [":method", "GET"],
  [":path", "/api"],
  [":authority", "kas"],
];

export class FrameCaller implements Disposable {
  readonly socket: TLSSocket;
  readonly frames: Frame[] = [];
  closed = false;
  #rest: Buffer = Buffer.alloc(0);

  constructor(port: number) {
    this.socket = tlsConnect({ port, host: "127.0.0.1", rejectUnauthorized: false, ALPNProtocols: ["h2"] });
    this.socket.on("error", () => {});
    this.socket.on("data", (chunk: Buffer) => this.#read(chunk));
    this.socket.on("close", () => {
      this.closed = true;
    });
    this.socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    this.socket.write(frame(FRAME.settings, 0, 0));
  }

  send(...frames: readonly Buffer[]): this {
    this.socket.write(Buffer.concat(frames));
    return this;
  }

  of(type: number, stream = -1): Frame[] {
    return this.frames.filter((one) => one.type === type && (stream < 0 || one.stream === stream));
  }

  /** Codes of the resets of a stream. */
  resets(stream: number): number[] {
    return this.of(FRAME.reset, stream).map(({ payload }) => payload.readUInt32BE(0));
  }

  goaways(): { last: number; code: number }[] {
    return this.of(FRAME.goaway).map(({ payload }) => ({
      last: payload.readUInt32BE(0),
      code: payload.readUInt32BE(4),
    }));
  }

  /** Whether a stream ended as a whole one does. */
  endedWell(stream: number): boolean {
    return this.frames.some((one) => one.stream === stream && one.type <= FRAME.headers && (one.flags & 1) === 1);
  }

  #read(chunk: Buffer): void {
    let rest = Buffer.concat([this.#rest, chunk]);
    while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
      const end = 9 + rest.readUIntBE(0, 3);
      const [type, flags] = [rest.readUInt8(3), rest.readUInt8(4)];
      this.frames.push({ type, flags, stream: rest.readUInt32BE(5), payload: rest.subarray(9, end) });
      rest = rest.subarray(end);
    }
    this.#rest = rest;
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}
