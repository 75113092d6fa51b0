/** What k8s/ ships: it renders, a real API server accepts it, it keeps to the rules that we promise, and its files are valid. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { createUser } from "@nats-io/nkeys";
import { connect, nkeyAuthenticator } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseDuration } from "../../src/config/duration.ts";
import { type Container, type Manifest, type PodSpec, rendered } from "./support/agent-pod.ts";
import { Child } from "./support/child.ts";
import { NODE } from "./support/kas-node.ts";
import { admin } from "./support/kubernetes.ts";
import { findProgram, needKubernetes, needNats } from "./support/need.ts";
import { freePort } from "./support/port.ts";
import { ROOT, RunDir } from "./support/run-dir.ts";

const run = promisify(execFile);
const FOLDERS = ["nats", "kas", "agentk", "example", "server"] as const;
const kubectlHere = findProgram("kubectl") !== null;
const kubernetes = await needKubernetes();
const nats = await needNats();

const pods = (folder: string): readonly PodSpec[] => rendered(folder).flatMap(({ spec }) => spec?.template?.spec ?? []);
const containers = (folder: string): readonly Container[] => pods(folder).flatMap((pod) => pod.containers);
const fileOf = (folder: string, name: string): string => {
  const found = rendered(folder).find(({ kind, data }) => kind === "ConfigMap" && data?.[name] !== undefined);
  return found?.data?.[name] ?? "";
};

describe.skipIf(!kubernetes)("a real API server", () => {
  const config = kubernetes?.adminConfig ?? "";
  const list = (items: readonly Manifest[]) => ({ stdin: JSON.stringify({ apiVersion: "v1", kind: "List", items }) });

  it.each(FOLDERS)("accepts k8s/%s", async (folder) => {
    const manifests = rendered(folder);
    const known = new Set((await admin(config, ["api-versions"])).trim().split("\n"));
    // Only disruption budgets may be too new for a server: they are why k8s/disruption is a component of its own.
    const accepted = manifests.filter(({ apiVersion }) => known.has(apiVersion));
    const namespaces = manifests.filter(({ kind }) => kind === "Namespace");
    await admin(config, ["apply", "-f", "-"], list(namespaces));

    const answer = await admin(config, ["apply", "--dry-run=server", "-f", "-"], list(accepted));

    expect(answer.trim().split("\n")).toHaveLength(accepted.length);
    const tooNew = manifests.filter((one) => !accepted.includes(one));
    expect(tooNew.filter(({ kind }) => kind !== "PodDisruptionBudget")).toEqual([]);
  });
});

describe.skipIf(!kubectlHere)("the manifests", () => {
  it.each(FOLDERS)("run every container of k8s/%s restricted", (folder) => {
    expect(pods(folder).length).toBeGreaterThan(0);
    for (const pod of pods(folder)) {
      expect(pod.automountServiceAccountToken).toBe(false);
      expect(pod.securityContext).toMatchObject({
        runAsNonRoot: true,
        runAsUser: 65_532,
        seccompProfile: { type: "RuntimeDefault" },
      });
    }
    for (const { securityContext } of containers(folder)) {
      const capabilities = { drop: ["ALL"] };
      expect(securityContext).toEqual({ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities });
    }
  });

  it.each(FOLDERS)("give every container of k8s/%s probes, a limit of memory and an image with a version", (folder) => {
    for (const { image, readinessProbe, livenessProbe, resources } of containers(folder)) {
      expect(image).toMatch(/:\d+\.\d+\.\d+$/);
      expect(readinessProbe).toBeDefined();
      expect(livenessProbe).toBeDefined();
      expect(resources?.requests).toHaveProperty("cpu");
      expect(resources?.limits?.memory).toBe(resources?.requests?.memory);
    }
  });

  it("probe kas where it answers", () => {
    const [kas] = containers("kas");

    expect(kas?.readinessProbe?.httpGet?.path).toBe("/readiness");
    expect(kas?.livenessProbe?.httpGet?.path).toBe("/liveness");
  });

  it("let kas and agentk drain before they are killed", () => {
    const [, seconds = ""] = /drain_timeout: (\d+)s/.exec(fileOf("kas", "kas.yaml")) ?? [];
    const [kas] = pods("kas");
    const [agentk] = pods("agentk");
    const drain = agentk?.containers[0]?.env?.find(({ name }) => name === "AGENTK_DRAIN_TIMEOUT")?.value ?? "";

    expect(kas?.terminationGracePeriodSeconds).toBeGreaterThan(Number(seconds || Number.NaN));
    expect((agentk?.terminationGracePeriodSeconds ?? 0) * 1_000).toBeGreaterThan(parseDuration(drain) ?? Number.NaN);
  });

  it("grant agentk nothing until an overlay names somebody, and then impersonation of those names alone", () => {
    const rulesOf = (folder: string) => rendered(folder).flatMap(({ rules }) => rules ?? []);

    expect(rendered("agentk").filter(({ kind }) => kind.endsWith("Role"))).toHaveLength(1);
    expect(rulesOf("agentk")).toEqual([]);
    expect(rulesOf("example")).toEqual([
      { apiGroups: [""], resources: ["users"], resourceNames: ["alice"], verbs: ["impersonate"] },
      { apiGroups: [""], resources: ["groups"], resourceNames: ["devs"], verbs: ["impersonate"] },
    ]);
  });

  it("let kas reach NATS and nothing else of other namespaces", () => {
    const policy = rendered("nats").find(({ kind }) => kind === "NetworkPolicy");

    // Written out, because kustomize's labels would silently replace the name in this selector.
    expect(policy?.spec).toMatchObject({
      ingress: [
        { from: [{ podSelector: { matchLabels: { "app.kubernetes.io/name": "kas" } } }], ports: [{ port: "client" }] },
        { from: [{ podSelector: { matchLabels: { "app.kubernetes.io/name": "nats" } } }], ports: [{ port: "route" }] },
      ],
    });
  });

  it("ship no secret", () => {
    for (const folder of FOLDERS) expect(rendered(folder).filter(({ kind }) => kind === "Secret")).toEqual([]);
  });
});

describe.skipIf(!kubectlHere)("kas.yaml of the manifests", () => {
  it("passes `kas config check` with the secrets and the environment of its pod", async () => {
    using dir = new RunDir("manifests");
    const secret = randomBytes(32).toString("base64");
    mkdirSync(dir.file("secrets"));
    mkdirSync(dir.file("authentication"));
    for (const name of ["api", "private-api"]) writeFileSync(dir.file("secrets", name), secret);
    writeFileSync(dir.file("nats-seed"), createUser().getSeed());
    writeFileSync(dir.file("authentication", "authentication.yaml"), "agents: []\n");
    const file = dir.file("kas.yaml");
    writeFileSync(file, fileOf("kas", "kas.yaml").replaceAll("/etc/kas/", `${dir.path}/`));
    const url = containers("kas")[0]?.env?.find(({ name }) => name === "OWN_PRIVATE_API_URL")?.value ?? "";
    const env = { OWN_PRIVATE_API_URL: url.replace("$(POD_IP)", "10.0.0.7"), POD_NAME: "kas-0" };

    const { stdout, stderr } = await run(NODE, [join(ROOT, "bin", "kas.js"), "config", "check", file], { env });

    expect({ stdout, stderr }).toEqual({ stdout: `${file}: no faults\n`, stderr: "" });
  });
});

describe.skipIf(!kubectlHere || !nats)("nats.conf of the manifests", () => {
  const users = [createUser(), createUser(), createUser()] as const;
  const dir = new RunDir("manifests-nats");
  let server: Child;
  let port = 0;

  beforeAll(async () => {
    const route = await freePort();
    port = await freePort();
    const file = dir.file("nats.conf");
    const shipped = fileOf("nats", "nats.conf");
    writeFileSync(
      file,
      shipped.replace("0.0.0.0:4222", `127.0.0.1:${port}`).replace("0.0.0.0:6222", `127.0.0.1:${route}`),
    );
    const nkeys = Object.fromEntries(users.map((user, index) => [`KAS_${index}_NKEY`, user.getPublicKey()]));
    const routes = Object.fromEntries(
      [0, 1, 2].map((index) => [`ROUTE_${index}`, `"nats-route://routes:0e1@127.0.0.1:${route}"`]),
    );
    const env = { POD_NAME: "nats-0", ROUTE_PASSWORD: '"0e1"', ...nkeys, ...routes };
    server = new Child({ name: "nats", command: nats ?? "", args: ["--config", file], dir, env });
    await server.whileAlive("readiness", async () =>
      readFileSync(server.stderrFile, "utf8").includes("Server is ready"),
    );
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  const login = async (index: 0 | 1 | 2) =>
    await connect({
      servers: `127.0.0.1:${port}`,
      authenticator: nkeyAuthenticator(users[index].getSeed()),
      inboxPrefix: `_INBOX_kas-${index}`,
      reconnect: false,
    });

  it("lets a node answer another, and refuses anonymous clients", async () => {
    await using both = new AsyncDisposableStack();
    const [one, two] = [await login(0), await login(1)];
    both.defer(async () => await one.close());
    both.defer(async () => await two.close());
    two.subscribe("kas.default.v1.n.kas-1.17.ctl", { callback: (_, message) => void message.respond("here") });
    await two.flush();

    const answer = await one.request("kas.default.v1.n.kas-1.17.ctl", "who?", { timeout: 5_000 });

    expect(answer.string()).toBe("here");
    await expect(connect({ servers: `127.0.0.1:${port}`, reconnect: false })).rejects.toThrow(/authorization/i);
  });

  it.each(["kas.default.v1.n.kas-1.17.ctl", "kas.default.v1.n.>", "_INBOX_kas-1.>", ">"])(
    "does not let another node listen to %s",
    async (subject) => {
      await using closing = new AsyncDisposableStack();
      const one = await login(0);
      closing.defer(async () => await one.close());

      const refused = new Promise((resolve) => one.subscribe(subject, { callback: (error) => resolve(String(error)) }));

      expect(await refused).toMatch(/permissions violation/i);
    },
  );
});
