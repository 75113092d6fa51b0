#!/usr/bin/env node
/**
 * Installs what `npm run demo` and `npm test` need and is missing: the npm packages, then Debian packages where this user
 * may. It runs on any Node >= 20 straight after `git clone`, so it is plain JavaScript and imports nothing but node:.
 * What cannot be installed is named with the one line to run; only missing npm packages end it with an error.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

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
    ["kubernetes-client", "kubectl"],
    ["openssl", "openssl"],
    ["python3-minimal", "python3"],
  ],
};

const say = (text) => process.stderr.write(`setup: ${text}\n`);

function has(proof) {
  if (proof.startsWith("/")) return existsSync(proof);
  return (process.env.PATH ?? "").split(":").some((folder) => existsSync(join(folder, proof)));
}

/** Runs with its output shown; true when it succeeded. */
function run(command, args, env = {}) {
  say(`${command} ${args.join(" ")}`);
  const { status } = spawnSync(command, args, {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, ...env },
  });
  return status === 0;
}

function installNpmPackages() {
  const lock = createHash("sha256")
    .update(readFileSync(join(root, "package-lock.json")))
    .digest("hex");
  const mark = join(root, "node_modules", ".installed");
  if (existsSync(mark) && readFileSync(mark, "utf8") === lock) return;
  say("installing the npm packages (about half a minute)");
  if (!run("npm", ["ci", "--no-fund", "--no-audit", "--loglevel=error"])) {
    say("npm ci failed: see its message above; kas needs its npm packages to run");
    process.exit(1);
  }
  writeFileSync(mark, lock);
}

function installDebianPackages(purpose) {
  const missing = DEBIAN[purpose].filter(([, proof]) => !has(proof)).map(([name]) => name);
  if (missing.length === 0) return;
  const line = `apt-get update && apt-get install -y ${missing.join(" ")}`;
  if (!has("apt-get") || !existsSync("/etc/debian_version")) {
    say(`not on Debian: ${missing.join(", ")} stay missing; what needs them is skipped and says so`);
    return;
  }
  const asRoot = process.getuid?.() === 0 ? [] : ["sudo", "-n"];
  const allowed = asRoot.length === 0 || (has("sudo") && spawnSync("sudo", ["-n", "true"]).status === 0);
  if (!allowed) {
    say(`missing ${missing.join(", ")}; what needs them is skipped. To install them, run as root:\n  ${line}`);
    return;
  }
  say(`installing the Debian packages ${missing.join(", ")}`);
  const apt = (...args) => {
    const [command, ...rest] = [...asRoot, "apt-get", "-qq", ...args];
    return run(command, rest, { DEBIAN_FRONTEND: "noninteractive" });
  };
  apt("update");
  if (!apt("install", "-y", "--no-install-recommends", ...missing)) {
    say(`could not install them; what needs them is skipped. To try by hand, run as root:\n  ${line}`);
  }
  // Debian starts what it installs; nobody here asked for these daemons.
  for (const service of ["nats-server", "prometheus"]) {
    if (missing.includes(service) && has("systemctl")) spawnSync("systemctl", ["disable", "--now", service]);
  }
}

installNpmPackages();
if (process.argv[2] in DEBIAN) installDebianPackages(process.argv[2]);
