/** The small readers: durations, addresses, secrets, names, proxies, and the settings table. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatAddress, parseAddress } from "../../src/config/address.ts";
import { formatDuration, parseDuration } from "../../src/config/duration.ts";
import { nearest } from "../../src/config/nearest.ts";
import { ownAddress } from "../../src/config/own-address.ts";
import { proxyFor } from "../../src/config/proxy.ts";
import { parseSecrets } from "../../src/config/secret.ts";
import { renderSettings } from "../../src/config/settings-table.ts";

describe("durations", () => {
  it.each([
    ["3600s", 3_600_000],
    ["5m", 300_000],
    ["1h30m", 5_400_000],
    ["250ms", 250],
    ["1.5s", 1500],
    [5, 5000],
    ["5", 5000],
    ["0", 0],
  ])("reads %s", (written, millis) => expect(parseDuration(written)).toBe(millis));

  it.each(["", "5x", "-5s", "s", "5 s", "1e9h", -1, Number.NaN, true, null, "600h"])("refuses %s", (written) =>
    expect(parseDuration(written)).toBeNull(),
  );

  it("writes what it reads", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 31 - 1 }), (millis) => {
        expect(parseDuration(formatDuration(millis))).toBe(millis);
      }),
    );
  });
});

describe("addresses", () => {
  it.each(["127.0.0.1:0", "[::1]:8150", ":8080", "localhost:65535"])("reads and writes %s", (text) => {
    const address = parseAddress(text);
    expect(address && formatAddress(address)).toBe(text);
  });

  it.each(["", "8150", "::1:8150", "a:b", "a:65536", "http://a:1", "a:1/x", "a:"])("refuses %s", (text) =>
    expect(parseAddress(text)).toBeNull(),
  );
});

describe("secrets", () => {
  const line = (byte: number) => Buffer.alloc(32, byte).toString("base64");
  it("reads one line, or the new and the old one", () => {
    expect(parseSecrets(`${line(1)}\n`)).toEqual([new Uint8Array(32).fill(1)]);
    expect(parseSecrets(`${line(1)}\r\n\n${line(2)}`)).toHaveLength(2);
  });

  it.each([
    ["", /empty/],
    [`${line(1)}\n${line(2)}\n${line(3)}`, /3 lines/],
    [`${line(1)}\nnot base64!`, /line 2 is not base64/],
    [Buffer.alloc(31).toString("base64"), /31 bytes/],
  ])("refuses %j", (text, why) => expect(parseSecrets(text)).toMatch(why));
});

describe("the nearest name", () => {
  it("is the one with the fewest edits, when they are few", () => {
    expect(nearest("adress", ["network", "address"])).toBe("address");
    expect(nearest("zzzzzzzz", ["network", "address"])).toBeNull();
  });
});

describe("the own address", () => {
  const sources = { env: {}, listen: { host: "", port: 8155 }, tls: true, interfaces: ["fe80::1", "10.1.2.3"] };
  const withEnv = (env: Record<string, string>) => ownAddress({ ...sources, env });

  it("comes from GitLab's variables", () => {
    expect(withEnv({ OWN_PRIVATE_API_URL: "grpcs://[fd00::1]:9", OWN_PRIVATE_API_HOST: "kas" })).toEqual({
      host: "fd00::1",
      port: 9,
      tls: true,
      serverName: "kas",
    });
    expect(
      withEnv({ OWN_PRIVATE_API_CIDR: "10.0.0.0/8", OWN_PRIVATE_API_PORT: "7", OWN_PRIVATE_API_SCHEME: "grpc" }),
    ).toMatchObject({ host: "10.1.2.3", port: 7, tls: false });
  });

  it.each([
    [{ OWN_PRIVATE_API_URL: "http://x:1" }, /OWN_PRIVATE_API_URL/],
    [{ OWN_PRIVATE_API_URL: "grpc://0.0.0.0:1" }, /OWN_PRIVATE_API_URL/],
    [{ OWN_PRIVATE_API_CIDR: "10.0.0.0" }, /expected a range/],
    [{ OWN_PRIVATE_API_CIDR: "192.168.0.0/16" }, /no address of this host/],
    [{ OWN_PRIVATE_API_CIDR: "10.0.0.0/8", OWN_PRIVATE_API_PORT: "x" }, /_PORT/],
    [{}, /every interface/],
  ])("says what is wrong with %j", (env, why) => expect(ownAddress({ ...sources, env })).toMatch(why));
});

describe("the HTTP proxy", () => {
  const env = { https_proxy: "proxy:3128", NO_PROXY: "internal, .svc, 10.0.0.0/8,exact.example:8150" };
  it.each([
    ["kas.example.com", 443, "http://proxy:3128"],
    ["internal", 443, null],
    ["a.internal", 443, null],
    ["kas.svc", 443, null],
    ["svc", 443, "http://proxy:3128"],
    ["10.9.9.9", 443, null],
    ["11.0.0.1", 443, "http://proxy:3128"],
    ["exact.example", 8150, null],
    ["exact.example", 443, "http://proxy:3128"],
    ["127.0.0.1", 443, null],
  ])("leads to %s:%i by %s", (host, port, proxy) => expect(proxyFor(host, port, env)).toBe(proxy));

  it("is none without the variable, or with NO_PROXY=*", () => {
    expect(proxyFor("x", 1, {})).toBeNull();
    expect(proxyFor("x", 1, { HTTPS_PROXY: "http://p:1", no_proxy: "*" })).toBeNull();
  });
});

describe("the settings table", () => {
  const table = renderSettings();
  it("has a row with default and meaning for each setting", () => {
    expect(table).toContain("| `agent.listen.address` | `127.0.0.1:8150` |");
    expect(table).toContain("| `cluster.homes` | `2` | one of 1, 2, 3, all |");
    const rows = table.split("\n").filter((row) => row.startsWith("| `"));
    expect(rows.length).toBeGreaterThan(60);
    for (const row of rows)
      expect(
        row
          .split(/(?<!\\)\|/)
          .every((cell, index, all) => index === 0 || index === all.length - 1 || cell.trim() !== ""),
      ).toBe(true);
  });
});
