/** What this machine offers to the demo: programs on the path or where Debian keeps servers, and a Kubernetes API. */
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { failed } from "../failed.ts";

type Env = Readonly<Record<string, string | undefined>>;

export type Machine = {
  readonly natsServer: string | null;
  readonly prometheus: string | null;
  /** From KUBECONFIG; null where it is not set. */
  readonly kubeconfig: string | null;
  /** For the processes of the demo: without what would change their ways. */
  readonly env: Env;
};

/** Not in the path of everybody. */
const SERVER_FOLDERS = ["/usr/sbin", "/usr/local/sbin"];
const HIDDEN =
  /^(POD_|KAS_|AGENTK_|OWN_PRIVATE_|OTEL_|KUBERNETES_|KUBECONFIG$|NODE_OPTIONS$|(HTTPS?|ALL|NO)_PROXY$|(https?|all|no)_proxy$)/;

export function lookAround(env: Env): Machine {
  const folders = [...(env.PATH ?? "").split(delimiter), ...SERVER_FOLDERS];
  const find = (name: string) => folders.map((folder) => join(folder, name)).find((path) => may(path, constants.X_OK));
  return {
    natsServer: find("nats-server") ?? null,
    prometheus: find("prometheus") ?? null,
    kubeconfig: kubeconfigOf(env),
    env: Object.fromEntries(Object.entries(env).filter(([name]) => !HIDDEN.test(name))),
  };
}

/** kubectl merges the files of a list; agentk reads one, so the first one that is there is taken. */
function kubeconfigOf({ KUBECONFIG: value = "" }: Env): string | null {
  const files = value.split(delimiter).filter((file) => file !== "");
  if (files.length === 0) return null;
  const file = files.find((each) => may(each, constants.R_OK));
  if (file === undefined) {
    throw failed("invalid", `KUBECONFIG is ${value}, which cannot be read: correct it, or unset it`);
  }
  return file;
}

function may(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}
