/** Where kas is and how to get there, as the flags say. */

export type DialOptions = {
  readonly scheme: "grpc" | "grpcs" | "ws" | "wss";
  readonly host: string;
  readonly port: number;
  /** Path of the WebSocket. */
  readonly path: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly caCertFile: string | null;
  readonly tlsServerName: string | null;
  readonly insecureSkipTlsVerify: boolean;
  /** URL of the HTTP proxy to dial through. */
  readonly proxy: string | null;
};

export const authorityOf = ({ host, port }: Pick<DialOptions, "host" | "port">): string =>
  `${host.includes(":") ? `[${host}]` : host}:${port}`;
