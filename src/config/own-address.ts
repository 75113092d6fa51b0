/**
 * The address under which other nodes dial this one: GitLab's `OWN_PRIVATE_API_URL`, or `_CIDR` (an interface of this host
 * in that range), else the listener's own address. Never a wildcard; port 0 stands for the port the listener will get.
 */
import { BlockList, isIP } from "node:net";
import { type Address, isWildcard, parseAddress } from "./address.ts";

export type OwnAddress = {
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
  /** Name that the others expect in the certificate. */
  readonly serverName: string;
};

export type OwnAddressSources = {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly listen: Address;
  readonly tls: boolean;
  /** IP addresses of this host. */
  readonly interfaces: readonly string[];
};

/** The address, or a fault for the operator. */
export function ownAddress(sources: OwnAddressSources): OwnAddress | string {
  const { env } = sources;
  if (env.OWN_PRIVATE_API_URL) return fromUrl(env.OWN_PRIVATE_API_URL, sources);
  if (env.OWN_PRIVATE_API_CIDR) return fromRange(env.OWN_PRIVATE_API_CIDR, sources);
  if (isWildcard(sources.listen)) {
    return "listens on every interface, so other nodes cannot know where to dial: set OWN_PRIVATE_API_URL (such as grpc://$(POD_IP):8155) or OWN_PRIVATE_API_CIDR, or listen on one address";
  }
  return named(sources.listen.host, sources.listen.port, sources.tls, sources);
}

const named = (host: string, port: number, tls: boolean, { env }: OwnAddressSources): OwnAddress => ({
  host,
  port,
  tls,
  serverName: env.OWN_PRIVATE_API_HOST || host,
});

function fromUrl(text: string, sources: OwnAddressSources): OwnAddress | string {
  const [, scheme, rest = ""] = /^(grpcs?):\/\/([^/]+)\/?$/.exec(text) ?? [];
  const address = parseAddress(rest) ?? parseAddress(`${rest}:${sources.listen.port}`);
  if (!scheme || !address || isWildcard(address)) {
    return "environment variable OWN_PRIVATE_API_URL: expected grpc://host:port or grpcs://host:port";
  }
  return named(address.host, address.port, scheme === "grpcs", sources);
}

function fromRange(text: string, sources: OwnAddressSources): OwnAddress | string {
  const { env, interfaces, listen } = sources;
  const range = rangeOf(text);
  if (!range) return "environment variable OWN_PRIVATE_API_CIDR: expected a range such as 10.0.0.0/8";
  const host = interfaces.find((ip) => range.check(ip, isIP(ip) === 6 ? "ipv6" : "ipv4"));
  if (!host) return `environment variable OWN_PRIVATE_API_CIDR: no address of this host is in ${text}`;
  const port = env.OWN_PRIVATE_API_PORT ? Number(env.OWN_PRIVATE_API_PORT) : listen.port;
  if (!Number.isInteger(port) || port < 0 || port > 65_535)
    return "environment variable OWN_PRIVATE_API_PORT: expected a port";
  const scheme = env.OWN_PRIVATE_API_SCHEME;
  if (scheme && scheme !== "grpc" && scheme !== "grpcs") {
    return "environment variable OWN_PRIVATE_API_SCHEME: expected grpc or grpcs";
  }
  return named(host, port, scheme ? scheme === "grpcs" : sources.tls, sources);
}

function rangeOf(text: string): BlockList | null {
  const [network = "", length = ""] = text.split("/");
  const family = isIP(network);
  if (family === 0 || !/^\d{1,3}$/.test(length) || Number(length) > (family === 6 ? 128 : 32)) return null;
  const range = new BlockList();
  range.addSubnet(network, Number(length), family === 6 ? "ipv6" : "ipv4");
  return range;
}
