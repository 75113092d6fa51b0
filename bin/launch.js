/**
 * Runs a command of this package on Node 24, also where `node` is older: the package brings its own binary. The command gets
 * everything it needs of the process as arguments. Plain JavaScript that Node 18 can read.
 */
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Socket } from "node:net";
import { dirname, join } from "node:path";

const NODE_MAJOR = 24;
const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"];
/** Names the pipe that ends with the launcher, so that a launcher killed by SIGKILL leaves no orphan. */
const LIFELINE = "KAS_LIFELINE_FD";
const LIFELINE_FD = 3;

/**
 * What V8 takes only at its start (docs/adr/0009): a young generation of 4 MiB. Servers of bytes have little that is young and
 * lives; with V8's 16 MiB they wait longer for each collection and hold tens of MiB of read buffers that nobody needs.
 */
const V8_OPTIONS = ["--max-semi-space-size=4"];
/** Who runs for long. */
const SERVERS = ["kas", "agentk"];

/** @param {"kas" | "agentk" | "kasctl"} name */
export async function launch(name) {
  const options = v8Options(name);
  if (Number(process.versions.node.split(".")[0]) < NODE_MAJOR) rerun(name, options);
  else if (options.length > 0 && canBecome()) become(process.execPath, [...process.execArgv, ...options]);
  else await run(name);
}

/** None where somebody said already what they want. */
function v8Options(name) {
  const said = [...process.execArgv, process.env.NODE_OPTIONS ?? ""].join(" ");
  return SERVERS.includes(name) && !/semi[-_]space/.test(said) ? V8_OPTIONS : [];
}

/** The next program has stdin, stdout and stderr only: a child would lose its IPC or its lifeline. */
function canBecome() {
  return process.execve !== undefined && process.send === undefined && process.env[LIFELINE] === undefined;
}

/** The same process, another program: it keeps its id, its parent and its streams. */
function become(node, nodeArgs) {
  process.execve(node, [node, ...nodeArgs, ...process.argv.slice(1)], process.env);
}

async function run(name) {
  holdLifeline();
  const built = new URL(`../dist/src/cli/${name}.js`, import.meta.url);
  const source = new URL(`../src/cli/${name}.ts`, import.meta.url);
  const { main } = await import(existsSync(built) ? built.href : source.href);
  const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  const code = await main({
    argv: process.argv.slice(2),
    env: process.env,
    version,
    stdout: (text) => void process.stdout.write(text),
    stderr: (text) => void process.stderr.write(text),
    onSignal: (received) => {
      for (const signal of SIGNALS) process.on(signal, () => received(signal));
    },
  });
  process.exit(code);
}

function holdLifeline() {
  const fd = process.env[LIFELINE];
  delete process.env[LIFELINE];
  if (fd === undefined) return;
  const lifeline = new Socket({ fd: Number(fd), readable: true, writable: false });
  lifeline.on("error", () => {});
  lifeline.on("close", () => process.kill(process.pid, "SIGKILL"));
  lifeline.resume();
  lifeline.unref();
}

function rerun(name, options) {
  const node = findNode();
  if (!node) {
    process.stderr.write(
      `${name}: needs Node ${NODE_MAJOR} or later, this is ${process.versions.node}; install it, or install this package with its optional dependencies\n`,
    );
    process.exit(1);
  }
  if (process.execve) become(node, options);
  const args = [...options, ...process.argv.slice(1)];
  const stdio = ["inherit", "inherit", "inherit", "pipe"];
  const child = spawn(node, args, { stdio, env: { ...process.env, [LIFELINE]: String(LIFELINE_FD) } });
  for (const signal of SIGNALS) process.on(signal, () => child.kill(signal));
  child.on("error", (error) => {
    process.stderr.write(`${name}: cannot run ${node}: ${error.message}\n`);
    process.exit(1);
  });
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code);
    for (const each of SIGNALS) process.removeAllListeners(each);
    process.kill(process.pid, signal);
  });
}

/** The binary of `node-<platform>-<arch>`, wherever npm put it: in this package or above it. */
function findNode() {
  try {
    const manifest = createRequire(import.meta.url).resolve(`node-${process.platform}-${process.arch}/package.json`);
    const node = join(dirname(manifest), "bin", "node");
    return existsSync(node) ? node : null;
  } catch {
    return null;
  }
}
