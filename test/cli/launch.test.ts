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
  const { pid, versions, execArgv, send } = globalThis.process;
  const hello = { pid, node: versions.node, argv: process.argv, lifeline, execArgv, ipc: send !== undefined };
  process.stdout(JSON.stringify(hello) + "\\n");
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
  for (const file of ["launch.js", "kas.js", "kasctl.js"])
    copyFileSync(join(ROOT, "bin", file), join(folder, "bin", file));
  writeFileSync(join(folder, "package.json"), '{ "type": "module", "version": "9.9.9" }');
  for (const name of ["kas", "kasctl"]) writeFileSync(join(folder, `src/cli/${name}.ts`), COMMAND);
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

type Hello = {
  readonly pid: number;
  readonly node: string;
  readonly argv: readonly string[];
  readonly lifeline: string | null;
  readonly execArgv: readonly string[];
  readonly ipc: boolean;
};

const launch = (node: string, ...args: string[]) => start(node, args, {});

async function start(
  node: string,
  args: readonly string[],
  { env = {}, ipc = false, lifeline = false, command = "kas" },
) {
  const stdio = ["ignore", "pipe", "inherit", ipc ? "ipc" : lifeline ? "pipe" : "ignore"] as const;
  const program = join(folder, `bin/${command}.js`);
  const child = spawn(node, [program, ...args], { stdio: [...stdio], env: { ...process.env, ...env } });
  if (!child.stdout) throw new Error("it has no output");
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<string> => String((await lines.next()).value);
  const hello: Hello = JSON.parse(await next());
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

describe("what the launcher tells V8", () => {
  const TUNED = "--max-semi-space-size=4";
  const END = ["end", "0"];

  it.each(NODES)("is a small young generation for a server, on $name", async ({ node }) => {
    const { hello } = await start(node, END, {});
    expect(hello.execArgv).toEqual([TUNED]);
  });

  it("costs no second process", async () => {
    const { child, hello } = await start(process.execPath, END, {});
    expect(hello.pid).toBe(child.pid);
  });

  it.each(NODES)("is nothing where somebody said it already, on $name", async ({ node }) => {
    const { hello } = await start(node, END, { env: { NODE_OPTIONS: "--max-semi-space-size=8" } });
    expect(hello.execArgv).toEqual([]);
  });

  it.each(NODES)("is nothing for a command that ends soon, on $name", async ({ node }) => {
    const { hello } = await start(node, END, { command: "kasctl" });
    expect(hello.execArgv).toEqual([]);
  });

  it("is nothing for a child with IPC, which keeps it", async () => {
    const { hello } = await start(process.execPath, END, { ipc: true });
    expect(hello).toMatchObject({ execArgv: [], ipc: true });
  });

  it("is nothing for a child whose lifeline it holds, which keeps it", async () => {
    const env = { KAS_LIFELINE_FD: "3" };
    const { child, hello } = await start(process.execPath, [], { env, lifeline: true });
    expect(hello.execArgv).toEqual([]);
    child.stdio[3]?.destroy();
    expect(await exitOf(child)).toEqual([null, "SIGKILL"]);
  });
});
