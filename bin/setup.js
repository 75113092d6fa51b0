#!/usr/bin/env node
/**
 * Installs what `npm run demo` and `npm test` need and is missing: the npm packages, then Debian packages where this user
 * may. It runs on any Node >= 20 straight after `git clone`, so it is plain JavaScript and imports nothing but node:.
 * What cannot be installed is named with the one line to run; only missing npm packages end it with an error.
 */
import { spawn, spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const NODE_MAJOR = 24;
const LEAST_MAJOR = 20;
const SAY_EVERY = 5_000;

/** Debian package, and the file or command that shows it is there. */
const DEBIAN = {
  demo: [
    ["nats-server", "nats-server"],
    ["prometheus", "prometheus"],
  ],
  test: [
    ["nats-server", "nats-server"],
    ["prometheus", "prometheus"],
    ["ruby-grpc", "/usr/share/doc/ruby-grpc"],
    ["ruby-grpc-tools", "grpc_tools_ruby_protoc"],
    ["libprotobuf-dev", "/usr/include/google/protobuf/timestamp.proto"],
    ["kubernetes-client", "kubectl"],
    ["openssl", "openssl"],
    ["python3-minimal", "python3"],
  ],
};
/** Packages that also bring a daemon, by the name of its systemd unit. */
const DAEMONS = ["nats-server", "prometheus"];

const say = (text) => process.stderr.write(`setup: ${text}\n`);

function has(proof) {
  if (proof.startsWith("/")) return existsSync(proof);
  // Servers are in /usr/sbin, which is not on the path of everybody.
  return [...(process.env.PATH ?? "").split(":"), "/usr/sbin", "/sbin"].some((folder) => runs(join(folder, proof)));
}

function runs(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Runs with its output shown, and a line now and then where it is silent; true when it succeeded. */
function run(command, args, { env = {}, progress = () => "" } = {}) {
  const began = Date.now();
  const child = spawn(command, args, {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, ...env },
  });
  const still = () => say(`still at it after ${Math.round((Date.now() - began) / 1000)} s${progress()}`);
  const timer = setInterval(still, SAY_EVERY);
  return new Promise((resolve) => {
    child.once("error", (error) => {
      say(`${command} cannot be run: ${error.message}`);
      resolve(false);
    });
    child.once("close", (code) => resolve(code === 0));
  }).finally(() => clearInterval(timer));
}

const readJson = (...path) => JSON.parse(readFileSync(join(root, ...path), "utf8"));

/** Is all of the lock file there? npm keeps what it installed in a lock file of its own, written when it is done. */
function npmPackagesAreThere() {
  try {
    const wanted = readJson("package-lock.json").packages;
    const installed = readJson("node_modules", ".package-lock.json").packages;
    return Object.entries(wanted).every(([path, { version, optional }]) => {
      if (path === "") return true;
      const found = installed[path];
      return found ? found.version === version && existsSync(join(root, path)) : optional === true;
    });
  } catch {
    return false;
  }
}

const count = (folder) => {
  try {
    return readdirSync(join(root, folder)).length;
  } catch {
    return 0;
  }
};

async function installNpmPackages() {
  if (npmPackagesAreThere()) return;
  say("installing the npm packages (npm ci, about half a minute)");
  const began = Date.now();
  const args = ["ci", "--include=dev", "--include=optional", "--no-fund", "--no-audit", "--loglevel=error"];
  const progress = () => `: ${count("node_modules")} entries in node_modules`;
  if (!(await run("npm", args, { progress }))) {
    say("npm ci failed: its message is above. The npm packages are needed; correct this and run the command again");
    process.exit(1);
  }
  say(`the npm packages are installed (${Math.round((Date.now() - began) / 1000)} s)`);
}

/** `npm run` starts everything with node_modules/.bin/node, a package where there is one for this platform. */
function ensureNode() {
  const node = join(root, "node_modules", ".bin", "node");
  if (runs(node)) return;
  if (Number(process.versions.node.split(".")[0]) >= NODE_MAJOR) {
    symlinkSync(process.execPath, node);
    return;
  }
  say(`no Node ${NODE_MAJOR} comes as a package for ${process.platform}-${process.arch}: install Node ${NODE_MAJOR}`);
  process.exit(1);
}

async function installDebianPackages(purpose) {
  const missing = DEBIAN[purpose].filter(([, proof]) => !has(proof)).map(([name]) => name);
  if (missing.length === 0) return;
  const line = `apt-get update && apt-get install -y --no-install-recommends ${missing.join(" ")}`;
  if (!has("apt-get")) {
    say(`not on Debian: ${missing.join(", ")} stay missing; what needs them is left out and says so`);
    return;
  }
  const isRoot = process.getuid?.() === 0;
  if (!isRoot && !(has("sudo") && spawnSync("sudo", ["-n", "true"], { stdio: "ignore" }).status === 0)) {
    say(`missing ${missing.join(", ")}; what needs them is left out. To install them, run as root:\n  ${line}`);
    return;
  }
  say(`installing the Debian packages ${missing.join(", ")}`);
  const command = ["sh", "-c", INSTALL, "sh", ...missing];
  const [program, ...args] = isRoot ? command : ["sudo", "-n", ...command];
  const daemons = DAEMONS.filter((name) => missing.includes(name) && !hasUnit(name));
  if (!(await run(program, args))) {
    say(`could not install them; what needs them is left out. To try by hand, run as root:\n  ${line}`);
    return;
  }
  if (has("systemctl")) for (const name of daemons) disable(name, isRoot);
}

/**
 * Debian starts the daemons it installs, and nobody asked for these: while a policy-rc.d says no, it does not. One that was
 * there before stays. Gives up soon where there is no network.
 */
const INSTALL = `
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap 'rm -f $policy' EXIT
  trap 'exit 130' INT TERM HUP
  printf '#!/bin/sh\\nexit 101\\n' > $policy && chmod 755 $policy
fi
export DEBIAN_FRONTEND=noninteractive
apt() {
  apt-get -q -o Acquire::Retries=1 -o Acquire::http::Timeout=15 -o Acquire::https::Timeout=15 \\
    -o DPkg::Lock::Timeout=60 -o Dpkg::Use-Pty=0 "$@" >&2
}
apt update
apt install -y --no-install-recommends --no-upgrade "$@"
`;

const hasUnit = (name) => has("systemctl") && spawnSync("systemctl", ["cat", name], { stdio: "ignore" }).status === 0;

/** Neither now nor at the next start of the machine. */
function disable(name, isRoot) {
  const [program, ...args] = [...(isRoot ? [] : ["sudo", "-n"]), "systemctl", "disable", "--now", name];
  spawnSync(program, args, { stdio: "ignore" });
}

if (Number(process.versions.node.split(".")[0]) < LEAST_MAJOR) {
  say(`needs Node ${LEAST_MAJOR} or later, this is ${process.versions.node}`);
  process.exit(1);
}
await installNpmPackages();
ensureNode();
const [purpose = ""] = process.argv.slice(2);
if (Object.hasOwn(DEBIAN, purpose)) await installDebianPackages(purpose);
