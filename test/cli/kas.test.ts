/** kas and agentk: usage, configuration checks, and what signals do. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { main as agentk } from "../../src/cli/agentk.ts";
import { type Running, serve } from "../../src/cli/command.ts";
import { main as kas } from "../../src/cli/kas.ts";
import type { AgentkConfig } from "../../src/config/agentk.ts";
import type { KasConfig } from "../../src/config/kas.ts";
import { failed } from "../../src/failed.ts";
import { fakeProcess } from "../support/command.ts";

let folder = "";
const path = (name: string) => join(folder, name);
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kas-cli-"));
  writeFileSync(path("good.yaml"), `authentication: { static_file: ${path("static.yaml")} }\nredis: {}\n`);
  writeFileSync(path("static.yaml"), "agents: []\n");
  writeFileSync(path("bad.yaml"), "agent:\n  listen:\n    address: x\nbogus: 1\n");
  writeFileSync(path("badauth.yaml"), `authentication: { static_file: ${path("badstatic.yaml")} }\n`);
  writeFileSync(path("badstatic.yaml"), "agents:\n  - { id: x }\n");
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A server that records what is asked of it and drains when it is let. */
function server() {
  const calls: string[] = [];
  const drained = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<void>();
  const running: Running = {
    drained: ended.promise,
    drain: () => {
      calls.push("drain");
      return drained.promise;
    },
    stop: async () => void calls.push("stop"),
  };
  return { calls, running, finishDrain: drained.resolve, end: ended.resolve, break: ended.reject };
}

describe("kas", () => {
  it("prints its version", async () => {
    const process = fakeProcess(["--version"]);
    expect(await kas(process)).toBe(0);
    expect(process.out()).toBe("1.2.3\n");
  });

  it.each([[[]], [["serve"]], [["frobnicate"]], [["serve", "--bogus"]]])(
    "refuses %j with a text on stderr only",
    async (argv) => {
      const process = fakeProcess(argv);
      expect(await kas(process)).toBe(1);
      expect(process.out()).toBe("");
      expect(process.err()).not.toBe("");
    },
  );

  it("checks a good file, naming what has no effect", async () => {
    const process = fakeProcess(["config", "check", path("good.yaml")]);
    expect(await kas(process)).toBe(0);
    expect(process.out()).toContain("no faults");
    expect(process.err()).toMatch(/warning: .*good\.yaml:2: redis has no effect/);
  });

  it.each([
    ["bad.yaml", [/bad\.yaml:3: agent\.listen\.address/, /bad\.yaml:4: bogus/]],
    ["badauth.yaml", [/badstatic\.yaml:2: agents\[0\]\.id/]],
    ["absent.yaml", [/absent\.yaml cannot be read/]],
  ])("names every fault of %s", async (name, faults) => {
    const process = fakeProcess(["config", "check", path(name)]);
    expect(await kas(process)).toBe(1);
    for (const fault of faults) expect(process.err()).toMatch(fault);
    expect(process.out()).toBe("");
  });

  it("serves with the checked configuration, drains at the first signal and ends with 0", async () => {
    const { running, calls, finishDrain } = server();
    const started = Promise.withResolvers<KasConfig>();
    const process = fakeProcess(["serve", "--configuration-file", path("good.yaml")], { POD_NAME: "kas-0" });
    const code = kas(process, async ({ config, stdout }) => {
      stdout('{"msg":"listening"}');
      started.resolve(config);
      return running;
    });
    expect((await started.promise).node.name).toBe("kas-0");
    await Promise.resolve();
    process.signal("SIGTERM");
    expect(calls).toEqual(["drain"]);
    finishDrain();
    expect(await code).toBe(0);
    expect(calls).toEqual(["drain", "stop"]);
    expect(process.out()).toBe('{"msg":"listening"}\n');
  });

  it.each([
    [[], 1],
    [["--workers", "3"], 3],
  ])("serves with %j by so many workers", async (flags, expected) => {
    const process = fakeProcess(["serve", "--configuration-file", path("good.yaml"), ...flags]);
    let asked = 0;
    await kas(process, async ({ workers }) => {
      asked = workers;
      throw failed("invalid", "enough");
    });
    expect(asked).toBe(expected);
  });

  it.each(["0", "65", "1.5", "many"])("refuses --workers %s", async (workers) => {
    const process = fakeProcess(["serve", "--configuration-file", path("good.yaml"), "--workers", workers]);
    expect([await kas(process), process.err()]).toEqual([
      1,
      `kas: --workers ${workers}: expected a whole number from 1 to 64\n`,
    ]);
  });

  it("refuses workers where they have nowhere to meet, and starts none", async () => {
    const process = fakeProcess(["serve", "--configuration-file", path("good.yaml"), "--workers", "2"]);
    expect(await kas(process)).toBe(1);
    expect(process.err()).toMatch(/^kas: --workers 2 needs NATS: .*Set nats\.servers/);
    expect(process.out()).toBe("");
  });

  it("names --workers in its help, but not the command that workers are started by", async () => {
    const serving = fakeProcess(["serve", "--help"]);
    expect([await kas(serving), serving.out()]).toEqual([0, expect.stringContaining("--workers <n>")]);
    const all = fakeProcess(["--help"]);
    await kas(all);
    expect(all.out()).not.toContain("worker");
  });

  it("says why it cannot start", async () => {
    const process = fakeProcess(["serve", "--configuration-file", path("good.yaml")]);
    const code = await kas(process, async () => {
      throw failed("invalid", "the name kas-0 is taken");
    });
    expect([code, process.err()]).toEqual([1, "kas: the name kas-0 is taken\n"]);
  });
});

describe("signals", () => {
  async function served(now: () => number = () => 0) {
    const process = fakeProcess([]);
    const parts = server();
    const code = serve(process, async () => parts.running, now);
    await Promise.resolve();
    await Promise.resolve();
    return { ...parts, process, code };
  }

  it("a second SIGTERM ends at once", async () => {
    let now = 0;
    const { process, code, calls } = await served(() => now);
    process.signal("SIGTERM");
    now = 1000;
    process.signal("SIGTERM");
    expect(await code).toBe(143);
    expect(calls).toEqual(["drain"]);
  });

  it.each(["SIGINT", "SIGTERM"])("one %s that arrives twice is one, a later one ends at once", async (signal) => {
    let now = 0;
    const { process, code, calls } = await served(() => now);
    process.signal(signal);
    now = 5;
    process.signal(signal);
    await Promise.resolve();
    expect(calls).toEqual(["drain"]);
    now = 1000;
    process.signal(signal);
    expect(await code).toBe(signal === "SIGINT" ? 130 : 143);
  });

  it("one before it is up ends at once", async () => {
    const process = fakeProcess([]);
    const code = serve(
      process,
      () => new Promise(() => {}),
      () => 0,
    );
    process.signal("SIGTERM");
    expect(await code).toBe(143);
  });

  it("it ends by itself once it is drained by others, and with its failure when it breaks", async () => {
    const drained = await served();
    drained.end();
    expect(await drained.code).toBe(0);
    const broken = await served();
    broken.break(failed("internal", "replaced"));
    await expect(broken.code).rejects.toThrow("replaced");
  });
});

describe("agentk", () => {
  it("starts with its flags and takes the token out of the environment", async () => {
    const started = Promise.withResolvers<AgentkConfig>();
    const { running, finishDrain } = server();
    const flags = [
      "--kas-address",
      "grpc://kas:8150",
      "--service",
      "a=http://a",
      "--service",
      "b=http://b:1",
      "--kas-header",
      "x-a: b",
    ];
    const process = fakeProcess(flags, { AGENTK_TOKEN: "t" });
    const code = agentk(process, async ({ config }) => {
      started.resolve(config);
      return running;
    });
    const config = await started.promise;
    expect([...config.services.keys()]).toEqual(["a", "b"]);
    expect(config).toMatchObject({
      token: { type: "value", value: "t" },
      kas: { host: "kas", headers: [["x-a", "b"]] },
    });
    expect(process.env.AGENTK_TOKEN).toBeUndefined();
    await Promise.resolve();
    finishDrain();
    process.signal("SIGINT");
    expect(await code).toBe(0);
  });

  it("names every fault of its flags", async () => {
    const process = fakeProcess(["--service", "x"]);
    expect(await agentk(process)).toBe(1);
    expect(process.err()).toMatch(/^agentk: [\s\S]*--kas-address[\s\S]*token[\s\S]*--service/);
  });
});
