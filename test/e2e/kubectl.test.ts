/** Everything people do with kubectl, on another node than the agent's. The API server is real, so is kubectl. */
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cluster, noteVersions, printLogsOnFailure } from "./support/cluster.ts";
import { remoteHop } from "./support/hop.ts";
import { fetchText } from "./support/http.ts";
import { kubectl, kubectlArgs, startKubectl } from "./support/kubectl.ts";
import { admin, POD, POD_PORT, podManifest } from "./support/kubernetes.ts";
import type { LeakGate } from "./support/leak-gate.ts";
import { needKubernetesAndNats } from "./support/need.ts";
import { Terminal } from "./support/pty.ts";
import { TOKENS } from "./support/settings.ts";
import { until } from "./support/wait.ts";

const parts = await needKubernetesAndNats();
const unique = randomBytes(4).toString("hex");
/** Prints the terminal's size for each line typed. */
const SIZE_LOOP = 'echo ready; while read word; do [ "$word" = end ] && exit 5; /bin/busybox stty size; done';
const sha256 = (file: string) => createHash("sha256").update(readFileSync(file)).digest("hex");

describe.skipIf(!parts)("kubectl through the other node", () => {
  const k8s = parts?.k8s;
  let cluster: Cluster;
  let config: string;
  let gate: LeakGate;
  printLogsOnFailure(() => cluster);

  beforeAll(async () => {
    cluster = await Cluster.start({ nodes: 2, tls: "proxy" });
    await cluster.agent({ id: 1, on: [1], kubeconfig: k8s?.agentConfig ?? "" });
    config = cluster.kubeconfig(0, 1);
    await kubectl(config, ["get", "pods"]);
    await noteVersions(cluster);
    gate = await cluster.leakGate();
  });
  afterAll(async () => await cluster?.[Symbol.asyncDispose]());

  const through = async (...args: readonly string[]) => await kubectl(config, args, { within: 45_000 });

  /** Records of requests that the first node wrote. */
  const requests = () =>
    cluster
      .node(0)
      .child.stderr()
      .split("\n")
      .filter((line) => line.includes('"msg":"request"'))
      .map((line): Readonly<Record<string, unknown>> => JSON.parse(line));

  it("gets pods", async () => {
    const pods = await remoteHop(cluster.node(0), async () => await through("get", "pods"));

    expect(pods).toMatchObject({ code: 0, stderr: "" });
    expect(pods.stdout).toMatch(new RegExp(`^${POD} .*Running`, "m"));
    await gate.check();
  });

  it("watches pods with `get --watch` and sees a change the moment it happens", async () => {
    const name = `watched-${unique}`;
    await remoteHop(cluster.node(0), async () => {
      await using watch = startKubectl(cluster.dir, config, ["get", "configmaps", "--watch-only", "-o", "name"]);
      await until("the watch to be open", async () => (await cluster.node(0).metrics()).sum("kas_streams_active") > 0);

      await admin(k8s?.adminConfig ?? "", ["create", "configmap", name]);

      await watch.whileAlive("the new object in the watch", () => watch.text().includes(name) || undefined, 5_000);
      await admin(k8s?.adminConfig ?? "", ["delete", "configmap", name]);
    });
    await gate.check();
  });

  it("follows logs with `logs -f` line by line", async () => {
    await remoteHop(cluster.node(0), async () => {
      await using logs = startKubectl(cluster.dir, config, ["logs", "-f", "--tail=1", POD]);
      const lines = () => logs.text().match(/line \d+/g)?.length ?? 0;
      await logs.whileAlive("a first line", () => lines() >= 1 || undefined);
      const before = lines();

      await logs.whileAlive("two more lines, one a second", () => lines() >= before + 2 || undefined, 6_000);
    });
    await gate.check();
  });

  it("runs `exec` with stdin and gives back its exit code", async () => {
    const args = ["exec", "-i", POD, "--", "sh", "-c", "cat; exit 7"];
    const ran = await remoteHop(cluster.node(0), async () => await kubectl(config, args, { stdin: "from stdin\n" }));

    expect(ran.stdout).toBe("from stdin\n");
    expect(ran.code).toBe(7);
    await gate.check();
  });

  it("runs `exec` on a terminal and passes its size on when it changes", async () => {
    await remoteHop(cluster.node(0), async () => {
      const args = kubectlArgs(config, ["exec", "-it", POD, "--", "sh", "-c", SIZE_LOOP]);
      await using terminal = Terminal.start(cluster.dir, ["kubectl", ...args]);
      await terminal.shows("ready");

      await terminal.resize(33, 99);
      await until("the new size in the container", async () => {
        terminal.type("again\n");
        return await terminal.shows("33 99", 1_000).catch(() => undefined);
      });
      terminal.type("end\n");

      expect((await terminal.child.exited).code).toBe(5);
    });
    await gate.check();
  });

  it("copies 20 MB in and out with equal hashes", async () => {
    const [there, back] = [cluster.dir.file("there.bin"), cluster.dir.file("back.bin")];
    writeFileSync(there, randomBytes(20 * 1024 * 1024));
    await remoteHop(cluster.node(0), async () => {
      expect(await through("cp", there, `${POD}:/tmp/copy-${unique}`)).toMatchObject({ code: 0 });
      expect(await through("cp", `${POD}:/tmp/copy-${unique}`, back)).toMatchObject({ code: 0 });
    });

    const inside = await admin(k8s?.adminConfig ?? "", ["exec", POD, "--", "sha256sum", `/tmp/copy-${unique}`]);
    expect(inside.split(" ")[0]).toBe(sha256(there));
    expect(sha256(back)).toBe(sha256(there));
    await gate.check();
  });

  it("forwards a port for 20 connections at once", async () => {
    await remoteHop(cluster.node(0), async () => {
      await using forward = startKubectl(cluster.dir, config, ["port-forward", `pod/${POD}`, `:${POD_PORT}`]);
      const port = await forward.whileAlive("a forwarded port", () => forward.text().match(/127\.0\.0\.1:(\d+)/)?.[1]);
      const answers = await Promise.all(
        Array.from({ length: 20 }, async () => await fetchText(`http://127.0.0.1:${port}/`)),
      );

      expect(answers.map(({ status, text }) => `${status} ${text}`)).toEqual(Array(20).fill("200 hi\n"));
    });
    await gate.check();
  });

  it("attaches to a running container", async () => {
    await remoteHop(cluster.node(0), async () => {
      await using attached = startKubectl(cluster.dir, config, ["attach", POD]);
      await attached.whileAlive(
        "lines of the container",
        () => /line \d+\nline \d+\n/.test(attached.text()) || undefined,
      );
    });
    await gate.check();
  });

  it("applies and deletes an object", async () => {
    const name = `applied-${unique}`;
    const manifest = JSON.stringify({
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name },
      data: { key: "value" },
    });
    await remoteHop(cluster.node(0), async () => {
      expect(await kubectl(config, ["apply", "-f", "-"], { stdin: manifest })).toMatchObject({ code: 0 });
      const stored = await admin(k8s?.adminConfig ?? "", ["get", "configmap", name, "-o", "jsonpath={.data.key}"]);
      expect(stored).toBe("value");
      expect(await through("delete", "configmap", name)).toMatchObject({ code: 0 });
    });

    expect((await kubectl(k8s?.adminConfig ?? "", ["get", "configmap", name])).stderr).toContain("NotFound");
    await gate.check();
  });

  it("impersonates a user and shows the API server's own refusal", async () => {
    const alice = cluster.kubeconfig(0, 1, TOKENS.alice);
    const refused = await remoteHop(cluster.node(0), async () => await kubectl(alice, ["get", "pods"]));

    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('pods is forbidden: User "alice" cannot list resource "pods"');
    expect(refused.stderr).not.toContain("kas:");
    if (k8s?.auditLog) {
      const audit = await until("the request in the audit log", () =>
        readFileSync(k8s.auditLog ?? "", "utf8")
          .split("\n")
          .findLast((line) => line.includes('"impersonatedUser":{"username":"alice"')),
      );
      const entry = JSON.parse(audit);
      expect(entry.impersonatedUser.groups).toContain("devs");
      expect(entry.responseStatus.code).toBe(403);
      expect(entry.user.username).toBe("system:serviceaccount:agentk:agentk");
    }
    await gate.check();
  });

  it("speaks HTTP/2, and HTTP/1.1 only where a connection is upgraded", async () => {
    const before = requests().length;
    await remoteHop(cluster.node(0), async () => {
      expect(await through("get", "pods")).toMatchObject({ code: 0 });
      expect(await through("logs", "--tail=1", POD)).toMatchObject({ code: 0 });
      expect(await through("exec", POD, "--", "true")).toMatchObject({ code: 0 });
    });
    const seen = await until("their records", () => {
      const since = requests().slice(before);
      return since.some(({ upgrade }) => upgrade) && since.some(({ resource }) => resource === "pods/log") && since;
    });

    const [upgraded, others] = [seen.filter(({ upgrade }) => upgrade), seen.filter(({ upgrade }) => !upgrade)];
    expect(new Set(upgraded.map(({ protocol }) => protocol))).toEqual(new Set(["http/1.1"]));
    expect(new Set(others.map(({ protocol }) => protocol))).toEqual(new Set(["h2"]));
    await gate.check();
  });

  it("runs a new pod to its end and reads its logs", async () => {
    const name = `job-${unique}`;
    const manifest = podManifest(k8s ?? raise(), name, "echo done", { restartPolicy: "Never" });
    await remoteHop(cluster.node(0), async () => {
      expect(await kubectl(config, ["apply", "-f", "-"], { stdin: JSON.stringify(manifest) })).toMatchObject({
        code: 0,
      });
      await until("its logs", async () => (await through("logs", name)).stdout === "done\n", {
        within: 30_000,
        every: 500,
      });
      expect(await through("delete", "pod", name, "--grace-period=0", "--force")).toMatchObject({ code: 0 });
    });
    await gate.check();
  });
});

function raise(): never {
  throw new Error("no cluster");
}
