/** `npm run demo` as people run it: with NATS, without, until Ctrl-C; and nothing of it is left afterwards. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { Child } from "./support/child.ts";
import { NODE } from "./support/kas-node.ts";
import { kubectl } from "./support/kubectl.ts";
import { findProgram, needNats } from "./support/need.ts";
import { ROOT, RunDir } from "./support/run-dir.ts";
import { inTime } from "./support/wait.ts";

const nats = await needNats();
const WITHIN = 60_000;

describe("the demo", () => {
  let dir: RunDir;
  let demo: Child;
  afterEach(async () => {
    await demo[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  /** In a temporary folder of its own, so that what it leaves there can be seen. */
  function start(args: readonly string[], env: Readonly<Record<string, string>> = {}): void {
    dir = new RunDir("demo");
    const TMPDIR = dir.path;
    const options = { name: "demo", command: NODE, args: [join(ROOT, "src/demo/main.ts"), ...args], dir, cwd: ROOT };
    demo = new Child({ ...options, env: { ...env, TMPDIR } });
  }
  const said = () => Buffer.from(demo.text(), "latin1").toString();
  const leftFolders = () => readdirSync(dir.path).filter((name) => name.startsWith("kas-demo-"));
  const pids = () => [...said().matchAll(/pid (\d+)/g)].map(([, pid]) => Number(pid));
  const isAlive = (pid: number) => existsSync(`/proc/${pid}`);

  it.skipIf(!nats)("answers every request over a real NATS, and ends", async () => {
    start(["--once"]);
    const { code } = await inTime("the demo", WITHIN, demo.exited);

    expect(said()).toMatch(/a real NATS: nats-server \d/);
    expect(said()).toMatch(/kas-3 +\S+ ms +→ kas-1 +\S+ ms +→ agent-1 +\S+ ms +→ API +\S+ ms +=/);
    expect(said()).toMatch(/all (21|24) requests came back right/);
    expect({ code, stderr: demo.stderr() }).toEqual({ code: 0, stderr: "" });
    expect(leftFolders()).toEqual([]);
  });

  it("answers every request with the nodes in one process", async () => {
    start(["--once", "--in-memory"]);
    const { code } = await inTime("the demo", WITHIN, demo.exited);

    expect(said()).toContain("the bus in memory instead of NATS");
    expect(said()).toMatch(/kas-3 +\S+ ms +→ kas-1 +\S+ ms +→ agent-1 +\S+ ms +→ API +\S+ ms +=/);
    expect(said()).toMatch(/all (21|24) requests came back right/);
    expect(code).toBe(0);
    expect(leftFolders()).toEqual([]);
  });

  it("stays until Ctrl-C, serves kubectl as it says, tells the request, and leaves nothing", async () => {
    start(["--in-memory"]);
    await demo.whileAlive("its invitation", () => said().includes("Ctrl-C ends everything"), WITHIN);
    const config = /--kubeconfig (\S+) get pods/.exec(said())?.[1] ?? "";
    const before = said().length;
    if (findProgram("kubectl")) {
      const pods = await kubectl(config, ["get", "pods"]);
      expect(pods.stdout).toMatch(/^web-1-of-cluster-1 +Running/m);
      await demo.whileAlive("the account", () => /→ API .* 200/.test(said().slice(before)));
    }
    const running = pids();
    expect(running.length).toBeGreaterThan(0);

    demo.signal("SIGINT");
    const { code } = await inTime("its end", 10_000, demo.exited);

    expect(code).toBe(0);
    expect(running.filter(isAlive)).toEqual([]);
    expect(leftFolders()).toEqual([]);
  });

  it("fails with the reason where an agent cannot use KUBECONFIG, and ends what it started", async () => {
    start(["--once", "--in-memory"], { KUBECONFIG: join(ROOT, "package.json") });
    const { code } = await inTime("the demo", WITHIN, demo.exited);

    expect(code).toBe(1);
    expect(demo.stderr()).toMatch(/the demo failed: agentk of agent-\d ended with exit code 1[\s\S]*kubeconfig/);
    expect(leftFolders()).toEqual([]);
  });
});
