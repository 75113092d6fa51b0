/** The launcher with a real process of each Node: exit codes, signals, and no orphan. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const ROOT = resolve(import.meta.dirname, "../..");
const LAUNCHER_MAJOR = 24;

/** A command that says who it is and ends as its arguments say. */
const COMMAND = `
export function main(process) {
  let signals = 0;
  const ended = new Promise((end) => process.onSignal((signal) => {
    process.stdout(signal + "\\n");
    signals += 1;
    if (signals === 2) end(7);
  }));
  const lifeline = process.env.KAS_LIFELINE_FD ?? null;
  const { pid, versions } = globalThis.process;
  process.stdout(JSON.stringify({ pid, node: versions.node, argv: process.argv, lifeline }) + "\\n");
  if (process.argv[0] === "end") return Promise.resolve(Number(process.argv[1]));
  setInterval(() => {}, 1000);
  return ended;
}
`;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kas-launch-"));
  mkdirSync(join(folder, "bin"));
  mkdirSync(join(folder, "src/cli"), { recursive: true });
  for (const file of ["launch.js", "kas.js"]) copyFileSync(join(ROOT, "bin", file), join(folder, "bin", file));
  writeFileSync(join(folder, "package.json"), '{ "type": "module", "version": "9.9.9" }');
  writeFileSync(join(folder, "src/cli/kas.ts"), COMMAND);
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A Node of this machine that is too old, where there is one. */
function findOldNode(): string | null {
  const candidates = (process.env.PATH ?? "").split(delimiter).map((directory) => join(directory, "node"));
  const major = (node: string) => Number(execFileSync(node, ["-p", "process.versions.node.split('.')[0]"]).toString());
  return candidates.find((node) => existsSync(node) && major(node) < LAUNCHER_MAJOR) ?? null;
}

const OLD = findOldNode();

async function launch(node: string, ...args: string[]) {
  const child = spawn(node, [join(folder, "bin/kas.js"), ...args], { stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<string> => String((await lines.next()).value);
  const hello: { pid: number; node: string; argv: string[]; lifeline: string | null } = JSON.parse(await next());
  return { child, next, hello };
}

const exitOf = async (child: ChildProcess): Promise<readonly [number | null, string | null]> => {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  return [child.exitCode, child.signalCode];
};

/** Gone, or dead and not yet collected. */
const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return (
      execFileSync("ps", ["-o", "stat=", "-p", String(pid)])
        .toString()
        .trim()
        .startsWith("Z") === false
    );
  } catch {
    return false;
  }
};

const NODES = [{ name: "this Node", node: process.execPath }, ...(OLD ? [{ name: "an older Node", node: OLD }] : [])];

describe.each(NODES)("the launcher on $name", ({ node }) => {
  it("runs the command on Node 24 and keeps its arguments and exit code", async () => {
    const { child, hello } = await launch(node, "end", "3", "a b");
    expect(hello).toMatchObject({ argv: ["end", "3", "a b"], lifeline: null });
    expect(Number(hello.node.split(".")[0])).toBeGreaterThanOrEqual(LAUNCHER_MAJOR);
    expect(await exitOf(child)).toEqual([3, null]);
  });

  it("passes the first and the second signal on", async () => {
    const { child, next } = await launch(node);
    child.kill("SIGHUP");
    expect(await next()).toBe("SIGHUP");
    child.kill("SIGTERM");
    expect(await next()).toBe("SIGTERM");
    expect(await exitOf(child)).toEqual([7, null]);
  });

  it("ends by the signal that ended the command", async () => {
    const { child, hello } = await launch(node);
    process.kill(hello.pid, "SIGKILL");
    expect(await exitOf(child)).toEqual([null, "SIGKILL"]);
  });

  it("leaves nobody behind when it is killed", async () => {
    const { child, hello } = await launch(node);
    child.kill("SIGKILL");
    await exitOf(child);
    await expect.poll(() => isAlive(hello.pid), { timeout: 5_000 }).toBe(false);
  });
});
