/**
 * Which real parts are here. A missing part that KAS_TEST_REQUIRE names fails the file that needs it; any other leaves one
 * visible line and the tests that need it are skipped.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { evidence } from "./evidence.ts";
import { type Kubernetes, kubernetes } from "./kubernetes.ts";

export const run = promisify(execFile);

export const PARTS = ["kubernetes", "nats", "prometheus", "ruby"] as const;
export type Part = (typeof PARTS)[number];

const required = (part: Part) => (process.env.KAS_TEST_REQUIRE ?? "").split(",").includes(part);

/** A program on PATH or where Debian keeps servers; null when there is none. */
export function findProgram(name: string): string | null {
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/usr/local/sbin"];
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path)) ?? null;
}

function absent(part: Part, reason: string): null {
  if (required(part)) throw new Error(`KAS_TEST_REQUIRE names ${part}, but ${reason}`);
  process.stdout.write(`skipped: ${reason}\n`);
  return null;
}

async function needProgram(part: Part, name: string, versionArgs: readonly string[]): Promise<string | null> {
  const path = findProgram(name);
  if (!path) return absent(part, `${name} not found`);
  const { stdout, stderr } = await run(path, [...versionArgs]);
  evidence(name, (stdout || stderr).split(/\n| \(/)[0]?.trim() ?? "");
  return path;
}

/** Path of nats-server. */
export const needNats = () => needProgram("nats", "nats-server", ["--version"]);
/** Path of Prometheus. */
export const needPrometheus = () => needProgram("prometheus", "prometheus", ["--version"]);

/** Path of a Ruby that can load gRPC. */
export async function needRuby(): Promise<string | null> {
  const ruby = findProgram("ruby");
  if (!ruby) return absent("ruby", "ruby not found");
  try {
    const { stdout } = await run(ruby, [
      "-e",
      'require "grpc"; print "ruby #{RUBY_VERSION}, grpc gem #{GRPC::VERSION}"',
    ]);
    evidence("ruby-grpc", stdout);
    return ruby;
  } catch {
    return absent("ruby", "Ruby's grpc not found (Debian package ruby-grpc)");
  }
}

/** The cluster of KUBECONFIG, or the lab that the run started, with a pod of ours in it. */
export async function needKubernetes(): Promise<Kubernetes | null> {
  if (!findProgram("kubectl")) return absent("kubernetes", "kubectl not found");
  const path = process.env.KUBECONFIG;
  if (!path) return absent("kubernetes", "no Kubernetes cluster found: set KUBECONFIG");
  const cluster = await kubernetes(path);
  evidence("kubernetes", cluster.version);
  evidence("kubectl", cluster.clientVersion);
  return cluster;
}

/** Everything that a routed test over real kubectl needs; null when a part is missing. */
export async function needKubernetesAndNats(): Promise<{ readonly k8s: Kubernetes; readonly nats: string } | null> {
  const [k8s, nats] = [await needKubernetes(), await needNats()];
  return k8s && nats ? { k8s, nats } : null;
}
