/** What the demo starts, it ends: processes, files, and what was about to be started. */
import { existsSync } from "node:fs";
import { afterEach, describe, expect, it } from "vitest";
import { Stage } from "../../src/demo/stage.ts";

const program = (name: string, script: string) => ({
  name,
  command: process.execPath,
  args: ["-e", script],
  env: { PATH: process.env.PATH },
});

describe("the demo's stage", () => {
  let stage: Stage;
  afterEach(async () => await stage?.[Symbol.asyncDispose]());

  it("ends a process, removes its folder and starts nothing more", async () => {
    stage = new Stage();
    const file = stage.write("secret", "s");
    const child = stage.spawn(program("kas", "console.log('up'); setInterval(() => {}, 1000)"));
    await child.said("its word", (line) => line === "up" || null);

    await stage[Symbol.asyncDispose]();

    expect(await child.ended).toBe("ended with SIGTERM");
    expect(existsSync(file)).toBe(false);
    expect(() => stage.spawn(program("kas", ""))).toThrow("the demo is ending");
  });

  it("says what a process that ended too early said last", async () => {
    stage = new Stage();
    const child = stage.spawn(program("agentk", "console.error('no such token'); process.exit(3)"));

    await expect(child.said("its connection", () => null)).rejects.toThrow(
      /agentk ended with exit code 3 before its connection. Its last lines:\n\s+no such token/,
    );
  });

  it("says that a program cannot be started", async () => {
    stage = new Stage();
    const child = stage.spawn({ name: "nats-server", command: "/no/such/program", args: [], env: {} });

    await expect(child.said("its port", () => null)).rejects.toThrow(/nats-server cannot be started: .*ENOENT/);
  });
});
