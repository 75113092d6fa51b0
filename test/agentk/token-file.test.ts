import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { TokenFile } from "../../src/agentk/token-file.ts";
import type { Clock } from "../../src/runtime/clock.ts";

let folder = "";
let stack = new DisposableStack();
beforeEach(() => {
  stack = new DisposableStack();
  folder = mkdtempSync(join(tmpdir(), "token-"));
  stack.defer(() => rmSync(folder, { recursive: true }));
});
afterEach(() => stack.dispose());

/** Time stands still until a test says otherwise. */
function stillClock() {
  const timers = new Set<{ readonly at: number; readonly run: () => void }>();
  let now = 0;
  const clock: Clock = {
    now: () => now,
    schedule(at, run) {
      const timer = { at, run };
      timers.add(timer);
      return { [Symbol.dispose]: () => void timers.delete(timer) };
    },
  };
  const advance = (by: number) => {
    now += by;
    for (const timer of [...timers]) if (timer.at <= now && timers.delete(timer)) timer.run();
  };
  return { clock, advance, timers };
}

/** A token file in the folder, and a promise of its next change. */
function tokenFile(path: string) {
  const time = stillClock();
  let { promise, resolve } = Promise.withResolvers<void>();
  const changed = () => {
    resolve();
    ({ promise, resolve } = Promise.withResolvers<void>());
  };
  const file = new TokenFile({ path, clock: time.clock, changed });
  stack.use(file);
  return { file, next: () => promise, ...time };
}

it("is read again when Kubernetes swaps the folder behind its link", async () => {
  for (const version of ["v1", "v2"]) {
    mkdirSync(join(folder, version));
    writeFileSync(join(folder, version, "token"), `${version}\n`);
  }
  symlinkSync("v1", join(folder, "..data"));
  symlinkSync("..data/token", join(folder, "token"));
  const { file, next } = tokenFile(join(folder, "token"));
  expect(file.value).toBe("v1");
  const changed = next();
  symlinkSync("v2", join(folder, "..tmp"));
  renameSync(join(folder, "..tmp"), join(folder, "..data"));
  await changed;
  expect(file.value).toBe("v2");
});

it("is read again every minute and when asked, and keeps the last good token", async () => {
  // Watching sees nothing here: only the folder of the link is watched, the file changes elsewhere.
  mkdirSync(join(folder, "watched"));
  mkdirSync(join(folder, "elsewhere"));
  const real = join(folder, "elsewhere", "token");
  writeFileSync(real, "one");
  symlinkSync(real, join(folder, "watched", "token"));
  const { file, next, advance, timers } = tokenFile(join(folder, "watched", "token"));

  writeFileSync(real, "two");
  let changed = next();
  advance(60_000);
  await changed;
  expect(file.value).toBe("two");
  expect(timers.size).toBe(1);

  writeFileSync(real, "three");
  changed = next();
  file.renew();
  await changed;
  expect(file.value).toBe("three");

  writeFileSync(real, "");
  file.renew();
  writeFileSync(real, "four");
  changed = next();
  file.renew();
  await changed;
  expect(file.value).toBe("four");
  file[Symbol.dispose]();
  expect(timers.size).toBe(0);
});

it("must exist and hold a token at the start", () => {
  const path = join(folder, "token");
  expect(() => new TokenFile({ path, clock: stillClock().clock })).toThrow(/cannot read the token file/);
  writeFileSync(path, " \n");
  expect(() => new TokenFile({ path, clock: stillClock().clock })).toThrow(/is empty/);
});
