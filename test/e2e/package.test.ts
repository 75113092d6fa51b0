/** The published package: packed, installed into an empty folder with what it declares to need, and started there. */
import { execFile } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Child } from "./support/child.ts";
import { fetchText } from "./support/http.ts";
import { ROOT, RunDir } from "./support/run-dir.ts";
import { staticFile } from "./support/settings.ts";

const run = promisify(execFile);
const BY_NPM = (process.env.KAS_TEST_REQUIRE ?? "").split(",").includes("registry");

type Lock = { readonly packages: Readonly<Record<string, { readonly dev?: boolean; readonly link?: boolean }>> };

describe("the package", () => {
  let dir: RunDir;
  let app: string;

  beforeAll(async () => {
    dir = new RunDir("package");
    app = dir.file("empty");
    mkdirSync(app);
    const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", dir.path], { cwd: copyCheckout() });
    const tarball = dir.file(JSON.parse(stdout.slice(stdout.indexOf("[")))[0].filename);
    if (BY_NPM) await run("npm", ["install", "--no-audit", "--no-fund", tarball], { cwd: app });
    else await installOffline(tarball);
  }, 240_000);
  afterAll(() => dir?.[Symbol.dispose]());

  /** Packing builds, and a `dist/` in the checkout itself would from then on be what its launchers run. */
  function copyCheckout(): string {
    const copy = dir.file("checkout");
    const left = new Set(["node_modules", ".git", "dist", "coverage", "test"]);
    for (const name of readdirSync(ROOT)) {
      if (!left.has(name)) cpSync(join(ROOT, name), join(copy, name), { recursive: true });
    }
    symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
    return copy;
  }

  /** As npm would, without a registry: the tarball unpacked beside links to exactly the packages that are not for development. */
  async function installOffline(tarball: string): Promise<void> {
    const modules = join(app, "node_modules");
    const home = join(modules, "kas");
    mkdirSync(home, { recursive: true });
    await run("tar", ["-xzf", tarball, "-C", home, "--strip-components=1"]);
    const lock: Lock = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8"));
    for (const [path, { dev }] of Object.entries(lock.packages)) {
      const isTop = path.startsWith("node_modules/") && path.lastIndexOf("node_modules/") === 0;
      if (!isTop || dev || !existsSync(join(ROOT, path))) continue;
      mkdirSync(dirname(join(app, path)), { recursive: true });
      symlinkSync(join(ROOT, path), join(app, path));
    }
    const bins: Readonly<Record<string, string>> = JSON.parse(readFileSync(join(home, "package.json"), "utf8")).bin;
    mkdirSync(join(modules, ".bin"));
    symlinkSync(join(ROOT, "node_modules", ".bin", "node"), join(modules, ".bin", "node"));
    for (const [name, file] of Object.entries(bins)) symlinkSync(join(home, file), join(modules, ".bin", name));
  }

  it("starts `kas serve` from an empty folder, with no source and no test in it", async () => {
    expect(existsSync(join(app, "node_modules", "kas", "src"))).toBe(false);
    expect(existsSync(join(app, "node_modules", "kas", "test"))).toBe(false);
    const address = "127.0.0.1:0";
    const settings = {
      agent: { listen: { address }, kubernetes_api: { listen: { address } } },
      observability: { listen: { address } },
      authentication: { static_file: dir.file("agents.json") },
    };
    writeFileSync(dir.file("agents.json"), JSON.stringify(staticFile()));
    writeFileSync(dir.file("kas.yaml"), JSON.stringify(settings));
    const args = ["serve", "--configuration-file", dir.file("kas.yaml")];
    const command = join(app, "node_modules", ".bin", "kas");
    await using kas = new Child({ name: "kas-package", command, args, dir, cwd: app });
    const line = await kas.line("the observability listener", ({ listener }) => listener === "observability");

    const { status } = await kas.whileAlive("readiness", async () => {
      const answer = await fetchText(`http://${line.address}/readiness`);
      return answer.status === 200 ? answer : undefined;
    });
    expect(status).toBe(200);
    expect((await kas.stop()).code).toBe(0);
  });

  it.each(["kas", "agentk", "kasctl"])("has %s say its version", async (name) => {
    const { stdout } = await run(join(app, "node_modules", ".bin", name), ["--version"], { cwd: app });
    expect(stdout).toContain(JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")).version);
  });
});
