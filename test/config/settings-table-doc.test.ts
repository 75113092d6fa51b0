/** docs/operations.md says what the code says: its settings are generated, its metrics are those that exist. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { createSupervisorMetrics } from "../../src/kas/workers/metrics.ts";
import { createAgentMetrics } from "../../src/telemetry/agent-metrics.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { generated, PAGE, regenerate, sectionOf } from "../support/settings-section.ts";

const page = readFileSync(PAGE, "utf8");

describe("docs/operations.md", () => {
  it("has the settings of the schema", () => {
    const how = "the section Settings is not what the schema says: run `node test/support/settings-section.ts`";
    expect(sectionOf(page), how).toBe(generated());
  });

  it("keeps everything around that section when it is written anew", () => {
    const stale = page.replace("| `node.name` |", "| `node.nome` |");

    expect(stale).not.toBe(page);
    expect(regenerate(stale)).toBe(page);
  });

  it("lists every metric that kas and agentk have, and no other", () => {
    using kas = createMetrics({ node: "kas-0", version: "0" });
    using agentk = createAgentMetrics({ version: "0" });
    using workers = createSupervisorMetrics("kas-0", 2);
    const all = [kas, agentk, workers].flatMap(({ registry }) => registry.getMetricsAsArray().map(({ name }) => name));
    const existing = [...new Set(all)];
    const section = /^## Metrics\n[\s\S]*?^## /m.exec(page)?.[0] ?? "";
    const rows = section.split("\n").filter((line) => line.startsWith("| `"));
    const listed = rows.flatMap((line) =>
      [...(line.split("|")[1] ?? "").matchAll(/`([a-z0-9_]+)`/g)].map(([, name]) => name),
    );

    const ours = existing.filter((name) => /^(?:kas|agentk|rpc)_/.test(name));
    expect(listed.toSorted()).toEqual(ours.toSorted());
  });
});
