/** Listening addresses as operators write them: `host:port`, `:port`, `[::1]:port`. Port 0 takes a free one. */
import type { AddressInfo } from "node:net";
import { failed } from "../failed.ts";

/** `host` is "" for all interfaces. */
export type HostPort = { readonly host: string; readonly port: number };

const ADDRESS = /^(?:\[([0-9a-fA-F:.]+(?:%\w+)?)\]|([^:[\]\s]*)):(\d{1,5})$/;

/** Throws `invalid` for anything else. */
export function parseAddress(address: string): HostPort {
  const match = ADDRESS.exec(address);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    throw failed(
      "invalid",
      `"${address}" is no address to listen on: write host:port, :port or [ipv6]:port, where port is 0 to 65535`,
    );
  }
  return { host: match[1] ?? match[2] ?? "", port };
}

export const formatAddress = ({ address, family, port }: AddressInfo): string =>
  family === "IPv6" ? `[${address}]:${port}` : `${address}:${port}`;
