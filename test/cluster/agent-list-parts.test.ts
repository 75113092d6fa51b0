/** Snapshots of agents cut into messages of bounded size, and made whole again. */
import { describe, expect, it } from "vitest";
import { fromParts, inParts, MAX_PAGE_SIZE } from "../../src/cluster/agent-list.ts";
import type { AgentChange } from "../../src/cluster/router.ts";
import { example } from "./directory-watcher.ts";

describe("the parts of a snapshot", () => {
  it.each([0, 1, MAX_PAGE_SIZE, MAX_PAGE_SIZE + 1, 2_500])("are bounded and make the whole of %i again", (count) => {
    const all = Array.from({ length: count }, (_, n) => example(n));
    const parts = inParts({ type: "snapshot", agents: all, complete: true, missing: [] });
    expect(parts.length).toBe(Math.max(1, Math.ceil(count / MAX_PAGE_SIZE)));
    const whole: AgentChange[] = [];
    const take = fromParts((change) => whole.push(change));
    for (const part of parts) take(part);
    expect(whole).toEqual([{ type: "snapshot", agents: all, complete: true, missing: [] }]);
  });
});
