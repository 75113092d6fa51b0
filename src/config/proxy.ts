/** Which HTTP proxy leads to a host: `HTTPS_PROXY` and `NO_PROXY` in either case, read as Go and curl read them. */

type Env = Readonly<Record<string, string | undefined>>;

/** null: dial directly. Loopback never goes through a proxy. */
export function proxyFor(host: string, port: number, env: Env): string | null {
  const proxy = env.HTTPS_PROXY || env.https_proxy;
  if (!proxy || isLoopback(host)) return null;
  const exceptions = (env.NO_PROXY || env.no_proxy || "").split(",");
  if (exceptions.some((exception) => covers(exception.trim().toLowerCase(), host.toLowerCase(), port))) return null;
  return proxy.includes("://") ? proxy : `http://${proxy}`;
}

const isLoopback = (host: string): boolean => host === "localhost" || host === "::1" || host.startsWith("127.");

function covers(exception: string, host: string, port: number): boolean {
  if (exception === "") return false;
  if (exception === "*") return true;
  if (exception.includes("/")) return inRange(exception, host);
  const [, name = exception, only] = /^([^:]+|\[.*\]):(\d+)$/.exec(exception) ?? [];
  if (only !== undefined && Number(only) !== port) return false;
  const domain = name.replace(/^\*?\./, "").replace(/^\[(.*)\]$/, "$1");
  const exact = domain === name.replace(/^\[(.*)\]$/, "$1");
  return (exact && host === domain) || host.endsWith(`.${domain}`);
}

/** IPv4 ranges only, such as 10.0.0.0/8: what clusters put into NO_PROXY. */
function inRange(range: string, host: string): boolean {
  const [network = "", length = ""] = range.split("/");
  const bits = Number(length);
  const from = ipv4(network);
  const address = ipv4(host);
  if (from === null || address === null || !(bits >= 0 && bits <= 32)) return false;
  const size = 2 ** (32 - bits);
  return Math.floor(from / size) === Math.floor(address / size);
}

function ipv4(text: string): number | null {
  const parts = text.split(".").map((part) => (/^\d{1,3}$/.test(part) ? Number(part) : Number.NaN));
  if (parts.length !== 4 || !parts.every((part) => part <= 255)) return null;
  return parts.reduce((sum, part) => sum * 256 + part, 0);
}
