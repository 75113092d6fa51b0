/**
 * Once per run: with no KUBECONFIG and no lab running, starts the one-node lab beside the checkout, when it is there and we are
 * root, and stops it at the end. A cluster that was there before is only cleaned of our pods.
 */
import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";

const LAB = resolve("..", "shared", "lab");
/** Where the lab puts itself when it is started by hand. */
const RUNNING = join(tmpdir(), "kube-lab", "kubeconfig");
const run = promisify(execFile);

export async function setup(): Promise<() => Promise<void>> {
  if (!process.env.KUBECONFIG && (await answers(RUNNING))) process.env.KUBECONFIG = RUNNING;
  if (process.env.KUBECONFIG) return cleanCluster;
  if (!existsSync(join(LAB, "up")) || process.getuid?.() !== 0) return async () => {};
  const dir = join(tmpdir(), "kas-e2e-lab");
  if (!(await startLab(dir))) return async () => {};
  process.env.KUBECONFIG = join(dir, "kubeconfig");
  return async () => {
    await run(join(LAB, "down"), [dir]);
  };
}

/** A kubeconfig may outlive its cluster. */
async function answers(kubeconfig: string): Promise<boolean> {
  if (!existsSync(kubeconfig)) return false;
  const args = [`--kubeconfig=${kubeconfig}`, "--request-timeout=5s", "get", "--raw", "/readyz"];
  return await run("kubectl", args, { timeout: 10_000 }).then(
    () => true,
    () => false,
  );
}

async function startLab(dir: string): Promise<boolean> {
  process.stdout.write("starting the Kubernetes lab\n");
  const lab = spawn(join(LAB, "up"), [dir], { stdio: ["ignore", "inherit", "inherit"] });
  const code = await new Promise<number | null>((settled) => {
    lab.once("error", () => settled(-1));
    lab.once("close", settled);
  });
  if (code !== 0) process.stdout.write("the Kubernetes lab did not start; set KUBECONFIG to use another cluster\n");
  return code === 0;
}

async function cleanCluster(): Promise<void> {
  const kubeconfig = process.env.KUBECONFIG ?? "";
  const args = [
    `--kubeconfig=${kubeconfig}`,
    "delete",
    "pods,configmaps",
    "-l",
    "app=kas-e2e",
    "--wait=false",
    "--ignore-not-found",
  ];
  await run("kubectl", args).catch(() => {});
}
