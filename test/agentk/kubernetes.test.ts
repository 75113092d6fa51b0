import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { inCluster, readKubeconfig } from "../../src/agentk/kubernetes.ts";

const folder = mkdtempSync(join(tmpdir(), "kubeconfig-"));
afterAll(() => rmSync(folder, { recursive: true }));

type Parts = { readonly cluster?: object; readonly user?: object; readonly context?: string };

function write({ cluster = {}, user = {}, context = "lab" }: Parts = {}): string {
  const path = join(folder, "kubeconfig");
  const file = {
    "current-context": context,
    clusters: [{ name: "c", cluster: { server: "https://10.0.0.1:6443/base/", ...cluster } }],
    users: [{ name: "u", user }],
    contexts: [
      { name: "lab", context: { cluster: "c", user: "u" } },
      { name: "anonymous", context: { cluster: "c" } },
    ],
  };
  writeFileSync(path, stringify(file));
  return path;
}
const base64 = (text: string) => Buffer.from(text).toString("base64");

describe("a kubeconfig", () => {
  it("gives the server, its authority and the token of the current context", () => {
    const path = write({ cluster: { "certificate-authority-data": base64("CA") }, user: { token: "t" } });
    expect(readKubeconfig(path, null)).toEqual({
      url: new URL("https://10.0.0.1:6443/base/"),
      tls: { ca: Buffer.from("CA") },
      credential: { type: "fixed", value: "Bearer t" },
      impersonates: null,
    });
  });

  it("takes the context it is told", () => {
    expect(readKubeconfig(write({ user: { token: "t" } }), "anonymous").credential).toEqual({ type: "none" });
  });

  it("finds files beside itself", () => {
    for (const name of ["ca", "crt", "key"]) writeFileSync(join(folder, name), name.toUpperCase());
    const cluster = { "certificate-authority": "ca", "tls-server-name": "api", "insecure-skip-tls-verify": true };
    const user = { "client-certificate": "crt", "client-key": "key", tokenFile: "tok" };
    expect(readKubeconfig(write({ cluster, user }), null)).toMatchObject({
      tls: {
        ca: Buffer.from("CA"),
        cert: Buffer.from("CRT"),
        key: Buffer.from("KEY"),
        servername: "api",
        rejectUnauthorized: false,
      },
      credential: { type: "token-file", path: join(folder, "tok") },
    });
  });

  it("prefers a token file to the token beside it, and a token to a password", () => {
    const both = readKubeconfig(write({ user: { token: "t", tokenFile: "/tok" } }), null);
    expect(both.credential).toEqual({ type: "token-file", path: "/tok" });
    const password = readKubeconfig(write({ user: { username: "u", password: "p:w" } }), null);
    expect(password.credential).toEqual({ type: "fixed", value: `Basic ${base64("u:p:w")}` });
  });

  it("may impersonate", () => {
    const user = { token: "t", as: "bob", "as-groups": ["devs"], "as-user-extra": { a: ["1"] } };
    expect(readKubeconfig(write({ user }), null).impersonates).toEqual({
      user: "bob",
      uid: "",
      groups: ["devs"],
      extra: [["a", ["1"]]],
    });
  });

  it.each([
    ["a plugin", { user: { exec: { command: "aws" } } }, /plugin/],
    ["a context that is not there", { context: "prod" }, /no context "prod"; it has lab, anonymous/],
    ["half a client certificate", { user: { "client-key-data": base64("k") } }, /belong together/],
    ["a server that is no URL", { cluster: { server: "10.0.0.1" } }, /is not a URL/],
    ["a file that is not there", { cluster: { "certificate-authority": "nowhere" } }, /cannot read/],
    ["a token that is no text", { user: { token: 7 } }, /token/],
  ])("with %s is refused, and the message says so", (_, parts: Parts, text) => {
    expect(() => readKubeconfig(write(parts), null)).toThrow(text);
  });

  it("that is no YAML or absent is refused", () => {
    const path = join(folder, "broken");
    writeFileSync(path, "a: [");
    expect(() => readKubeconfig(path, null)).toThrow(/is not YAML/);
    expect(() => readKubeconfig(join(folder, "none"), null)).toThrow(/cannot read/);
  });
});

describe("in a pod", () => {
  it("the service account says where and as whom, on IPv6 too", () => {
    writeFileSync(join(folder, "ca.crt"), "CA");
    const env = { KUBERNETES_SERVICE_HOST: "fd00::1", KUBERNETES_SERVICE_PORT: "6443" };
    expect(inCluster(env, folder)).toEqual({
      url: new URL("https://[fd00::1]:6443"),
      tls: { ca: Buffer.from("CA") },
      credential: { type: "token-file", path: join(folder, "token") },
      impersonates: null,
    });
  });

  it("is told to give a kubeconfig when it is no pod", () => {
    expect(() => inCluster({}, folder)).toThrow(/give --kubeconfig/);
  });
});
