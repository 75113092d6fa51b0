/** What k8s/ ships: it renders, a real API server accepts it, it keeps to the rules that we promise, and its files are valid. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { createUser } from "@nats-io/nkeys";
import { describe, expect, it } from "vitest";
import { parseDuration } from "../../src/config/duration.ts";
import { NODE } from "./support/kas-node.ts";
import { admin } from "./support/kubernetes.ts";
import { type Container, fileIn, type Manifest, type PodSpec, rendered } from "./support/manifests.ts";
import { findProgram, needKubernetes } from "./support/need.ts";
import { ROOT, RunDir } from "./support/run-dir.ts";

const run = promisify(execFile);
const FOLDERS = ["nats", "kas", "agentk", "example", "server"] as const;
const kubectlHere = findProgram("kubectl") !== null;
const kubernetes = await needKubernetes();

const pods = (folder: string): readonly PodSpec[] => rendered(folder).flatMap(({ spec }) => spec?.template?.spec ?? []);
const containers = (folder: string): readonly Container[] => pods(folder).flatMap((pod) => pod.containers);

describe.skipIf(!kubernetes)("a real API server", () => {
  const config = kubernetes?.adminConfig ?? "";
  const list = (items: readonly Manifest[]) => ({ stdin: JSON.stringify({ apiVersion: "v1", kind: "List", items }) });

  it.each(FOLDERS)("accepts k8s/%s", async (folder) => {
    const manifests = rendered(folder);
    const known = new Set((await admin(config, ["api-versions"])).trim().split("\n"));
    // Only disruption budgets may be too new for a server: they are why k8s/disruption is a folder of its own.
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
    const [, seconds = ""] = /drain_timeout: (\d+)s/.exec(fileIn("kas", "kas.yaml")) ?? [];
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

  it("let nobody but kas be a client of NATS", () => {
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
    writeFileSync(file, fileIn("kas", "kas.yaml").replaceAll("/etc/kas/", `${dir.path}/`));
    const url = containers("kas")[0]?.env?.find(({ name }) => name === "OWN_PRIVATE_API_URL")?.value ?? "";
    const env = { OWN_PRIVATE_API_URL: url.replace("$(POD_IP)", "10.0.0.7"), POD_NAME: "kas-0" };

    const { stdout, stderr } = await run(NODE, [join(ROOT, "bin", "kas.js"), "config", "check", file], { env });

    expect({ stdout, stderr }).toEqual({ stdout: `${file}: no faults\n`, stderr: "" });
  });
});
