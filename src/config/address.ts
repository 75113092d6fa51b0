/** Addresses to listen on, as Go and GitLab write them: `host:port`, `[::1]:port`, `:port` for every interface. Port 0 is any free one. */

export type Address = {
  /** "" listens on every interface. */
  readonly host: string;
  readonly port: number;
};

const SHAPE = /^(?:\[([0-9a-fA-F:.%a-z]+)\]|([^:[\]\s/]*)):(\d{1,5})$/;

export const ADDRESS_EXPECTED = "host:port, such as 127.0.0.1:8150, [::1]:8150 or :8150 for every interface";

/** null where it is none. */
export function parseAddress(text: string): Address | null {
  const [, six, plain, digits] = SHAPE.exec(text) ?? [];
  const port = Number(digits);
  return digits !== undefined && port <= 65_535 ? { host: six ?? plain ?? "", port } : null;
}

export const formatAddress = ({ host, port }: Address): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;

const WILDCARDS = new Set(["", "0.0.0.0", "::", "*"]);

/** Listens on every interface, so that nobody could dial it by this name. */
export const isWildcard = ({ host }: Address): boolean => WILDCARDS.has(host);
