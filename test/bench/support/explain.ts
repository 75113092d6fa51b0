/** Where each process's time went: the functions that took most, and a flame graph. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { flameGraph } from "./flame.ts";
import { readProfile, selfTimes, type Window } from "./profile.ts";
import type { Stage } from "./stage.ts";

/** Ends the processes, then says where each one's time went, and draws it. */
export async function explain(stage: Stage, dir: string, window: Window, say: (line: string) => void): Promise<void> {
  const watched = stage.watched();
  await stage.finish();
  for (const { name, pid } of watched) {
    const found = readProfile(dir, pid);
    if (!found) continue;
    const times = selfTimes(found, window);
    const total = times.reduce((sum, [, micros]) => sum + micros, 0);
    say(`\n${name}: self time, % of ${(total / 1e6).toFixed(1)} s`);
    for (const [where, micros] of times.slice(0, 45))
      say(`${((100 * micros) / total).toFixed(1).padStart(6)}  ${where}`);
    const file = join(dir, `flame-${name.replaceAll(" ", "-")}.svg`);
    writeFileSync(file, flameGraph(name, found, window));
    say(`flame graph: ${file}`);
  }
}
