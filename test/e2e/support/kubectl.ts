/** Runs a real kubectl with a kubeconfig, its caches kept away from the user's. */
import { spawn } from "node:child_process";
import { Child } from "./child.ts";
import type { RunDir } from "./run-dir.ts";

export type KubectlResult = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

export type KubectlOptions = {
  readonly stdin?: string | Uint8Array;
  readonly within?: number;
};

/** kubectl's arguments before the command's own. */
export const kubectlArgs = (kubeconfig: string, args: readonly string[]): readonly string[] => [
  `--kubeconfig=${kubeconfig}`,
  `--cache-dir=${kubeconfig}.cache`,
  ...args,
];

/** Runs kubectl to its end; it is killed after `within`. */
export async function kubectl(
  kubeconfig: string,
  args: readonly string[],
  { stdin = "", within = 30_000 }: KubectlOptions = {},
): Promise<KubectlResult> {
  const child = spawn("kubectl", kubectlArgs(kubeconfig, args), { stdio: ["pipe", "pipe", "pipe"] });
  const timer = setTimeout(() => child.kill("SIGKILL"), within);
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => err.push(chunk));
  child.stdin.on("error", () => {});
  child.stdin.end(stdin);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (exit) => resolve(exit));
  });
  clearTimeout(timer);
  return { code, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() };
}

/** Starts a kubectl that stays, such as `port-forward`. */
export function startKubectl(dir: RunDir, kubeconfig: string, args: readonly string[]): Child {
  return new Child({ name: `kubectl-${args[0] ?? ""}`, command: "kubectl", args: kubectlArgs(kubeconfig, args), dir });
}

/** A kubeconfig for one agent behind a kas, with the credential kubectl will send as its bearer token. */
export function kubeconfigYaml(server: string, token: string, caPem?: string): string {
  const ca = caPem ? `, certificate-authority-data: ${Buffer.from(caPem).toString("base64")}` : "";
  return `apiVersion: v1
kind: Config
clusters: [{ name: c, cluster: { server: "${server}"${ca} } }]
users: [{ name: u, user: { token: "${token}" } }]
contexts: [{ name: x, context: { cluster: c, user: u, namespace: default } }]
current-context: x
`;
}
