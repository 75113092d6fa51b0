import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { failed } from "../../src/failed.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import { createLogger } from "../../src/telemetry/logger.ts";

/** Runs what is due when told to, in order of time. */
function steppedClock() {
  let now = 0;
  const due = new Set<{ at: number; run: () => void }>();
  const clock: Clock = {
    now: () => now,
    schedule(at, run) {
      const entry = { at, run };
      due.add(entry);
      return { [Symbol.dispose]: () => void due.delete(entry) };
    },
  };
  const advance = (by: number) => {
    now += by;
    for (const entry of [...due].filter(({ at }) => at <= now).toSorted((a, b) => a.at - b.at)) {
      due.delete(entry);
      entry.run();
    }
  };
  return { clock, advance, pending: () => due.size };
}

function start() {
  const lines: Record<string, unknown>[] = [];
  const stepped = steppedClock();
  const destination = { write: (line: string) => void lines.push(JSON.parse(line)) };
  const logger = createLogger({ bindings: { node: "kas-0" }, destination, clock: stepped.clock });
  return { lines, logger, ...stepped };
}

describe("the logger", () => {
  it("writes one JSON object a line with level, time, message and bindings", () => {
    const { lines, logger } = start();
    logger.child({ agent_id: 7 }).info("agent connected", { transport: "grpc" });
    expect(lines).toMatchObject([
      { level: "info", msg: "agent connected", node: "kas-0", agent_id: 7, transport: "grpc" },
    ]);
    expect(new Date(String(lines[0]?.time)).toISOString()).toBe(lines[0]?.time);
    expect(Object.keys(lines[0] ?? {})).not.toContain("pid");
  });

  it("writes records of requests in the form of every other line, and only where info is shown", () => {
    const { lines, logger } = start();
    logger.record("request", { status: 200, reason: 'a "quoted" \n reason' });
    logger.level = "warn";
    logger.record("request", { status: 500 });
    const time = expect.any(String);
    expect(lines).toEqual([
      { level: "info", time, node: "kas-0", status: 200, reason: 'a "quoted" \n reason', msg: "request" },
    ]);
    expect(new Date(String(lines[0]?.time)).toISOString()).toBe(lines[0]?.time);
  });

  it("writes an error with its cause", () => {
    const { lines, logger } = start();
    logger.error("a cell failed", { err: failed("internal", "outer", new Error("inner")) });
    expect(lines[0]?.err).toMatchObject({ type: "Failed", message: expect.stringContaining("inner") });
  });

  it("changes its level for its children too", () => {
    const { lines, logger } = start();
    const child = logger.child({ part: "bus" });
    child.debug("hidden");
    logger.level = "debug";
    child.debug("shown");
    logger.level = "error";
    child.warn("hidden");
    expect(lines.map(({ msg }) => msg)).toEqual(["shown"]);
    expect(logger.level).toBe("error");
  });

  it("writes a repeated warning once per 10 s with its number, and forgets it when it stops", () => {
    const { lines, logger, advance, pending } = start();
    for (let i = 0; i < 100; i++) logger.warn("NATS refused something", { err: new Error("why"), i });
    expect(lines.length).toBe(1);
    advance(10_000);
    expect(lines.slice(1)).toMatchObject([{ msg: "NATS refused something", repeated: 99, i: 99 }]);
    logger.warn("NATS refused something", { err: new Error("why") });
    expect(lines.length).toBe(2);
    advance(10_000);
    expect(lines[2]).toMatchObject({ repeated: 1 });
    advance(10_000);
    expect([lines.length, pending()]).toEqual([3, 0]);
    logger.warn("NATS refused something", { err: new Error("why") });
    expect(lines.length).toBe(4);
  });

  it("takes nothing for a repetition that differs in level, message, cause or bindings", () => {
    const { lines, logger } = start();
    logger.warn("x");
    logger.error("x");
    logger.warn("y");
    logger.warn("x", { err: new Error("1") });
    logger.warn("x", { err: new Error("2") });
    logger.child({ agent_id: 1 }).warn("x");
    logger.info("x");
    logger.info("x");
    expect(lines.length).toBe(8);
  });

  it("writes what it owes when it is disposed", () => {
    const { lines, logger, pending } = start();
    logger.error("x");
    logger.error("x");
    logger[Symbol.dispose]();
    expect(lines[1]).toMatchObject({ repeated: 1 });
    expect(pending()).toBe(0);
  });

  it("holds a bounded number of different warnings", () => {
    const { lines, logger, pending } = start();
    for (let i = 0; i < 1_000; i++) logger.warn(`warning ${i}`);
    expect(lines.length).toBe(1_000);
    expect(pending()).toBe(256);
  });

  it("hides credentials, also one level down", () => {
    const { lines, logger } = start();
    logger.info("x", { token: "t0p", headers: { authorization: "Bearer t0p", "private-token": "t0p", accept: "a" } });
    expect(JSON.stringify(lines)).not.toContain("t0p");
    expect(lines[0]).toMatchObject({ headers: { accept: "a" } });
  });

  it("has written everything to stderr when the process exits, and nothing to stdout", async () => {
    const module = new URL("../../src/telemetry/logger.ts", import.meta.url).href;
    const script = `import { createLogger } from ${JSON.stringify(module)};
      const logger = createLogger();
      for (let i = 0; i < 250; i++) logger.info("line", { i });
      for (let i = 0; i < 250; i++) logger.record("line", { i });
      process.exit(0);`;
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script]);
    expect(stdout).toBe("");
    expect(stderr.trim().split("\n").length).toBe(500);
  });
});
